"""``lorabench compare``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorabench.cli.options import AsJson
from lorabench.errors import InputError

if TYPE_CHECKING:
    from lorabench.analysis.comparison import Comparison, Metric
    from lorabench.record import Record


def compare(
    base: Annotated[Path, typer.Argument(metavar="A", help="The results file of before.", show_default=False)],
    head: Annotated[Path, typer.Argument(metavar="B", help="The results file of after.", show_default=False)],
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print Markdown instead of the table: '>> $GITHUB_STEP_SUMMARY'.")
    ] = False,
    as_json: AsJson = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Write comparison.html into this folder, too.", show_default=False),
    ] = None,
) -> None:
    """Show two results files side by side: the bytes and times of the cases that both have, and what one lacks.

    Other hardware or versions are said and not refused, and the exit code is 0 whatever comes out: to judge is the
    gate's business.
    """
    from lorabench.analysis.comparison import compare as compare_results
    from lorabench.results import read_results

    if as_markdown and as_json:
        raise InputError("--markdown and --json: choose one")
    files = [read_results(path) for path in (base, head)]
    for warning in (warning for file in files for warning in file.warnings):
        typer.echo(warning, err=True)
    comparison = compare_results(*files)
    if as_json:
        for line in _json_lines(comparison):
            typer.echo(json.dumps(line))
    elif as_markdown:
        from lorabench.report.comparison.markdown import markdown

        typer.echo(markdown(comparison), nl=False)
    else:
        from lorabench.report.comparison.terminal import print_comparison
        from lorabench.report.terminal import open_console

        print_comparison(open_console(), comparison)
    if out is not None:
        from lorabench.report.comparison.page import write_page

        page = write_page(comparison, out)
        # What is printed as Markdown or JSON goes on into a file or a program.
        typer.echo(f"page: {page}", err=as_json or as_markdown)


def _json_lines(comparison: Comparison) -> Iterator[dict[str, Any]]:
    """One object for what differs around the cases, then one for each case of either file."""
    sides = {"base": comparison.base, "head": comparison.head}
    yield {
        "type": "comparison",
        **{
            name: {"file": side.name, "records": len(side.records), "environments": [e.id for e in side.environments]}
            for name, side in sides.items()
        },
        "differs": {note.name: {"base": note.base, "head": note.head} for note in comparison.notes},
    }
    for pair in comparison.pairs:
        yield {
            "type": "case",
            **_case(pair.head),
            "status": {"base": pair.base.status, "head": pair.head.status},
            "metrics": [_metric(metric) for metric in pair.metrics],
            "categories": dict(pair.categories),
        }
    for where, records in (("base", comparison.only_base), ("head", comparison.only_head)):
        for record in records:
            yield {"type": "only", "in": where, **_case(record), "status": record.status}


def _case(record: Record) -> dict[str, Any]:
    names = ("key", "name", "scenario", "seed", "repeat", "source")
    return {**{name: getattr(record, name) for name in names}, "device": record.device.name}


def _metric(metric: Metric) -> dict[str, Any]:
    told: dict[str, Any] = {
        "metric": metric.name,
        "unit": "bytes" if metric.kind == "bytes" else "s",
        "base": metric.base,
        "head": metric.head,
        "difference": metric.difference,
        "share": metric.share,
        "direction": metric.direction,
    }
    for side, timing in (("base", metric.base_timing), ("head", metric.head_timing)):
        if timing is not None:
            told[f"{side}_ci95_s"] = list(timing.ci95_s)
            told[f"{side}_unstable"] = timing.unstable
    return told
