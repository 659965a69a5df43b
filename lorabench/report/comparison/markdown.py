"""The comparison as Markdown, for a pull request, an issue or a step summary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lorabench.analysis.comparison import Comparison, changed_settings
from lorabench.record import Record
from lorabench.report.comparison.rows import (
    TIMES_LEGEND,
    Row,
    blocks,
    categories,
    legend,
    side_line,
    summary,
    urgency,
)
from lorabench.report.page.markdown import code, escaped

MOST_ROWS = 200
"""Of each table: GitHub takes 65,536 characters in a comment."""


def markdown(comparison: Comparison) -> str:
    """What changed comes first, the largest share on top; what is the same is folded away."""
    return "\n".join(_lines(comparison)) + "\n"


def _lines(comparison: Comparison) -> Iterator[str]:
    yield "## Base and head, side by side"
    yield ""
    for name, side in (("base", comparison.base), ("head", comparison.head)):
        yield f"- {name}: {escaped(side_line(side.name, side.records, (one.device.name for one in side.environments)))}"
    yield ""
    if comparison.notes:
        yield "> **Not only the code differs.**"
        yield from (f"> - {escaped(str(note))}" for note in comparison.notes)
        yield ""
    yield from (f"- {escaped(line)}" for line in summary(comparison))
    yield ""
    rows = [row for block in blocks(comparison) for row in block.rows]
    told = sorted((row for row in rows if row.changed), key=urgency)
    if told:
        yield "### What changed"
        yield ""
        yield from _table(told)
    rest = [row for row in rows if not row.changed]
    if rest:
        yield f"<details><summary>What is the same or cannot be told apart ({len(rest):,})</summary>"
        yield ""
        yield from _table(rest)
        yield "</details>"
        yield ""
    yield from _alone("base", comparison.only_base, comparison.only_head)
    yield from _alone("head", comparison.only_head, comparison.only_base)
    if comparison.pairs:
        yield f"<sub>{escaped(legend(comparison))}</sub>"
        yield ""
        if any(row.pair.head.latency for row in rows):
            yield f"<sub>{escaped(TIMES_LEGEND)}</sub>"


def _table(rows: Sequence[Row]) -> Iterator[str]:
    yield "| case | | base | head | change | % | at the peak |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | --- |"
    for row in rows[:MOST_ROWS]:
        told = categories(row.pair) if row.metric == "peak allocated" else ""
        cells = (row.metric, row.base, row.head, row.change, row.share, told)
        yield f"| {code(row.pair.head.name)} | {' | '.join(escaped(cell) for cell in cells)} |"
    if len(rows) > MOST_ROWS:
        yield ""
        yield f"The first {MOST_ROWS} of {len(rows):,} rows."
    yield ""


def _alone(where: str, records: Sequence[Record], others: Sequence[Record]) -> Iterator[str]:
    if not records:
        return
    yield f"<details><summary>Only in the {where} ({len(records):,})</summary>"
    yield ""
    for record in records[:MOST_ROWS]:
        changed = changed_settings(record, others)
        yield f"- {code(record.name)} {code(record.key)}" + (f" ({escaped(changed)})" if changed else "")
    if len(records) > MOST_ROWS:
        yield f"- and {len(records) - MOST_ROWS:,} more"
    yield ""
    yield "</details>"
    yield ""
