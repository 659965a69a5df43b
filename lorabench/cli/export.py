"""``lorabench export``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from lorabench.errors import InputError


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

    found = read_results(*dict.fromkeys(results))
    whole, left_out = as_pytest_benchmark(found.latest(), found.environments)
    for line in (*found.warnings, *left_out):
        typer.echo(line, err=True)
    text = json.dumps(whole, indent=2)
    if out is None:
        typer.echo(text)
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written: {error.strerror}") from None
