"""``lorabench claims``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from lorabench.cli.options import AsJson


def claims(
    results: Annotated[list[Path], typer.Argument(metavar="RESULTS", help="Results files.", show_default=False)],
    claim: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Show this claim alone; can be given several times.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Judge the guide's claims by the records of results files; exit 0 whatever the verdicts say."""
    from lorabench.analysis.claims import judge
    from lorabench.analysis.claims.catalogue import claims_named
    from lorabench.report.terminal import open_console
    from lorabench.report.verdicts import print_verdicts
    from lorabench.results import read_results

    chosen = claims_named(claim) if claim else None
    # One by one: a file's place tells whether it is committed evidence.
    files = [read_results(path) for path in results]
    for warning in (warning for file in files for warning in file.warnings):
        typer.echo(warning, err=True)
    # All are judged: a verdict is to be the one that it has beside the others, in a report of the same files.
    verdicts = [verdict for verdict in judge(files) if chosen is None or verdict.claim in chosen]
    if as_json:
        for verdict in verdicts:
            typer.echo(json.dumps(verdict.to_dict()))
        return
    print_verdicts(open_console(), verdicts)
