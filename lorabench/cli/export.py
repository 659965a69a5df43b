"""``lorabench export``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from lorabench.cli.files import refuse_overwriting
from lorabench.errors import InputError
from lorabench.whole_file import write_whole


def export(
    results: Annotated[
        list[Path], typer.Argument(metavar="RESULTS...", help="Results files with measured times.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write here instead of to stdout.", show_default=False),
    ] = None,
) -> None:
    """Write times as pytest-benchmark's JSON, for 'pytest-benchmark compare' and dashboards that read it.

    What has no samples of time, a prediction for instance, is left out and said on stderr.
    """
    from lorabench.report.pytest_benchmark import export as as_pytest_benchmark
    from lorabench.results import read_results

    refuse_overwriting([("RESULTS", path) for path in results], {"--out": out})
    found = read_results(*dict.fromkeys(results))
    whole, left_out = as_pytest_benchmark(found.latest(), found.environments)
    for line in (*found.warnings, *left_out):
        typer.echo(line, err=True)
    text = json.dumps(whole, indent=2)
    if out is None:
        typer.echo(text)
        return
    try:
        write_whole(out, text + "\n")
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written: {error.strerror}") from None
