"""``lorabench report``."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorabench.errors import InputError
from lorabench.wording import counted, one_line

if TYPE_CHECKING:
    from lorabench.report.page.cards import Glance
    from lorabench.report.page.view import View


def report(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULTS...",
            help="Results files; those in a folder below results/ are marked as committed evidence.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder to write to; files of an earlier report are replaced.")
    ] = Path("reports"),
) -> None:
    """Write the verdicts and all cases as a page that opens offline, as Markdown, tables and figures."""
    from lorabench.report.page.drawing import drawing

    # Nearly all that is made here stays: to look for garbage among millions of objects would take a fifth of the time.
    gc.disable()
    # Before the files are read: the processes that draw get ready in the meantime.
    with drawing() as figures:
        from lorabench.analysis.claims import judge
        from lorabench.report.page.writer import write_report
        from lorabench.results import read_results

        found = [read_results(path) for path in dict.fromkeys(results)]
        for warning in (warning for file in found for warning in file.warnings):
            typer.echo(warning, err=True)
        if not any(file.records for file in found):
            names = ", ".join(str(path) for path in results)
            raise InputError(f"{names}: no record: there is nothing to report before a case has run")
        view = write_report(found, judge, out, figures)
    for line in _summary(view):
        typer.echo(line)
    typer.echo(f"report: {out / 'index.html'}")


def _summary(view: View) -> list[str]:
    """What the report says at a glance, a line for each device."""
    lines = [_judged(glance) for glance in view.glances] or ["no verdict: no claim was judged"]
    statuses = ", ".join(f"{number} {status}" for status, number in view.caveats.statuses.items())
    return lines + ([f"not ok: {statuses}"] if statuses else [])


def _judged(glance: Glance) -> str:
    judged = ", ".join(f"{number} {judgement}" for judgement, number in glance.counts.items() if number)
    where = f"{one_line(glance.device)}: " if glance.device else ""
    return f"{where}{counted(len(glance.cards), 'claim')}: {judged}"
