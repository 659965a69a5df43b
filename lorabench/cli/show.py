"""``lorabench show``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from lorabench.cli.options import AsJson
from lorabench.errors import InputError
from lorabench.record import Record
from lorabench.wording import did_you_mean


def show(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="A results file.", show_default=False)],
    key: Annotated[
        str | None,
        typer.Argument(
            metavar="[KEY]", help="A record to show whole: its key, the start of it, or its name.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show a results file as a table, or one of its records whole."""
    from lorabench.report.details import print_details
    from lorabench.report.terminal import in_order, open_console, print_line, print_records
    from lorabench.results import read_results

    found = read_results(results)
    for warning in found.warnings:
        typer.echo(warning, err=True)
    records = found.latest() if key is None else _matching(found.latest(), key, results)
    if as_json:
        for record in records:
            typer.echo(json.dumps(record.to_dict()))
        return
    console = open_console()
    if key is None:
        print_records(console, in_order(named for record in records for named in record.in_each_scenario()))
        return
    for record in records:
        data = record.to_dict()
        environment = found.environments[record.environment].to_dict()
        names = [other.name for other in record.also]
        print_details(console, {**data, "also": names, "environment": environment})
        print_line(console)


def _matching(records: Sequence[Record], key: str, results: Path) -> list[Record]:
    """The records of one key or name; several where seeds, repeats or devices differ."""
    matching = [record for record in records if key in record.names or (key and record.key.startswith(key))]
    if len({record.key for record in matching}) == 1:
        return matching
    if matching:
        raise InputError(f"{results}: {key!r} fits records of several keys: give more of one")
    hint = did_you_mean(key, [name for record in records for name in record.names])
    raise InputError(f"{results}: no record has the key or the name {key!r}{hint}")
