"""The comparison as a page that opens offline: the report's look, with base and head on shared axes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lorabench import __version__
from lorabench.analysis.comparison import Comparison, Side, changed_settings
from lorabench.errors import InputError
from lorabench.record import Memory, Record
from lorabench.report.comparison.rows import (
    TIMES_LEGEND,
    Row,
    beyond_memory,
    blocks,
    categories,
    legend,
    side_line,
    urgency,
)
from lorabench.report.page.caveats import Machine, machines
from lorabench.report.page.explorer import packed
from lorabench.report.page.html import inline, templates
from lorabench.report.page.material import gather
from lorabench.results import Results

FILE = "comparison.html"
"""Beside a report's index.html, which it leaves alone."""
MOST_ROWS = 400
SAMPLE_BYTES = 4_000_000
"""Of the packed charts; beyond it they go without samples, so that the page stays below the report's 8 MB."""

_STYLES = ("style.css", "comparison.css", "print.css")
_SCRIPTS = (
    *("vendor/plotly-basic.min.js", "scripts/theme.js", "scripts/unpack.js", "scripts/format.js", "scripts/plots.js"),
    "scripts/comparison.js",
)


def write_page(comparison: Comparison, out: Path) -> Path:
    """Writes :data:`FILE` into the folder ``out`` and returns where it lies.

    Raises:
        InputError: ``out`` cannot be written.
    """
    path = out / FILE
    try:
        out.mkdir(parents=True, exist_ok=True)
        # Names from a file may hold a lone surrogate, which no encoding can write.
        path.write_text(page(comparison), encoding="utf-8", errors="backslashreplace", newline="")
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written: {error.strerror}") from None
    return path


def page(comparison: Comparison) -> str:
    rows = [row for block in blocks(comparison) for row in block.rows]
    changed = sorted((row for row in rows if row.changed), key=urgency)
    return (
        templates()
        .get_template("comparison.html")
        .render(
            sides=[(name, _line(side)) for name, side in _sides(comparison)],
            notes=comparison.notes,
            counts=_counts(comparison),
            summary=beyond_memory(comparison),
            has_pairs=bool(comparison.pairs),
            has_charts=bool(_chart_data(comparison, sampled=False)["groups"]),
            changed=changed,
            rest=[row for row in rows if not row.changed],
            only_base=_alone(comparison.only_base, comparison.only_head),
            only_head=_alone(comparison.only_head, comparison.only_base),
            machines=list(_machines(comparison)),
            timed=any(pair.base.latency or pair.head.latency for pair in comparison.pairs),
            packed=_charts(comparison),
            categories=categories,
            legend=legend(comparison),
            times_legend=TIMES_LEGEND,
            most_rows=MOST_ROWS,
            styles=[inline(name) for name in _STYLES],
            scripts=[inline(name) for name in _SCRIPTS],
            version=__version__,
        )
    )


def _sides(comparison: Comparison) -> tuple[tuple[str, Side], tuple[str, Side]]:
    return ("base", comparison.base), ("head", comparison.head)


def _line(side: Side) -> str:
    return side_line(side.name, side.records, (one.device.name for one in side.environments))


def _counts(comparison: Comparison) -> list[tuple[int, str, str, str]]:
    """Number, colour, word and meaning."""
    ways = [pair.bytes_direction for pair in comparison.pairs]
    return [
        (ways.count("more"), "refuted", "more bytes", "cases with more static, dynamic or peak bytes in the head"),
        (ways.count("less"), "supported", "fewer bytes", "cases with fewer of one of them, and more of none"),
        (ways.count("same"), "not-tested", "the same", "cases whose bytes are the same, each of them"),
        (len(comparison.only_base), "inconclusive", "base alone", "cases that the head lacks"),
        (len(comparison.only_head), "conditional", "head alone", "cases that the base lacks"),
    ]


def _alone(records: Sequence[Record], others: Sequence[Record]) -> list[tuple[str, str | None]]:
    return [(record.name, changed_settings(record, others)) for record in records]


def _machines(comparison: Comparison) -> Iterator[tuple[str, Machine]]:
    for name, side in _sides(comparison):
        known = {one.id: one for one in side.environments}
        for machine in machines(gather([Results(known, list(side.records))], ())):
            yield name, machine


def _charts(comparison: Comparison) -> str:
    text = packed(_chart_data(comparison, sampled=True))
    return text if len(text) <= SAMPLE_BYTES else packed(_chart_data(comparison, sampled=False))


def _chart_data(comparison: Comparison, *, sampled: bool) -> dict[str, Any]:
    groups = []
    for block in blocks(comparison, everywhere=True):
        cases: dict[int, Row] = {}
        for row in block.rows:
            # The numbers of an invalid case are of something else than its name says.
            if "invalid" not in (row.pair.base.status, row.pair.head.status):
                cases.setdefault(id(row.pair), row)
        groups.append({"title": block.title, "cases": [_case(row, sampled) for row in cases.values()]})
    return {"sampled": sampled, "groups": [group for group in groups if group["cases"]]}


def _case(row: Row, sampled: bool) -> dict[str, Any]:
    phases = [metric.name for metric in row.pair.metrics if metric.kind == "seconds"]
    return {
        "label": row.case,
        "base": _side_of(row.pair.base, phases, sampled),
        "head": _side_of(row.pair.head, phases, sampled),
    }


def _side_of(record: Record, phases: Sequence[str], sampled: bool) -> dict[str, Any]:
    memory = record.memory or Memory()
    times = {
        phase: {
            "median": timing.median_s,
            "low": timing.ci95_s[0],
            "high": timing.ci95_s[1],
            "unstable": timing.unstable,
            "samples": timing.samples_s if sampled else (),
        }
        for phase in phases
        if (timing := record.latency.get(phase)) is not None
    }
    return {
        "static": memory.static_bytes,
        "dynamic": memory.dynamic_bytes,
        "peak": memory.peak_allocated_bytes,
        "reserved": memory.peak_reserved_bytes,
        "times": times,
    }
