"""The comparison as a table on a terminal, or in a pipe."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lorabench.analysis.comparison import Comparison, changed_settings
from lorabench.record import Record
from lorabench.report.comparison.rows import (
    TIMES_LEGEND,
    Block,
    Row,
    blocks,
    categories,
    legend,
    side_line,
    summary,
)
from lorabench.report.terminal import print_line
from lorabench.wording import one_line

_STYLES = {"more": "yellow", "less": "green", "same": "dim", "unclear": "dim"}


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Where both come from and what differs there; a table for each scenario; what only one file has; the sum of it."""
    for name, side in (("base", comparison.base), ("head", comparison.head)):
        devices = (one.device.name for one in side.environments)
        print_line(console, Text(f"{name}: {side_line(side.name, side.records, devices)}", style="bold"))
    for note in comparison.notes:
        print_line(console, Text(one_line(f"differs: {note}"), style="yellow"))
    print_line(console)
    for block in blocks(comparison, everywhere=True):
        _print_block(console, block)
    for where, records, others in (
        ("base", comparison.only_base, comparison.only_head),
        ("head", comparison.only_head, comparison.only_base),
    ):
        _print_alone(console, where, records, others)
    for line in summary(comparison):
        print_line(console, line)
    if comparison.pairs:
        print_line(console, Text(legend(comparison), style="dim"))
    if any(metric.kind == "seconds" for pair in comparison.pairs for metric in pair.metrics):
        print_line(console, Text(TIMES_LEGEND, style="dim"))


def _print_block(console: Console, block: Block) -> None:
    print_line(console, Text(block.title, style="bold"))
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("case", overflow="fold", min_width=10)
    table.add_column("", no_wrap=True)
    for title in ("base", "head", "change", "%"):
        table.add_column(title, justify="right", no_wrap=True)
    last = None
    for row in block.rows:
        style = _STYLES[row.direction]
        # A case is named once, above its numbers.
        name = "" if row.pair is last else row.case
        last = row.pair
        table.add_row(
            Text(name),
            Text(row.metric),
            Text(row.base),
            Text(row.head),
            Text(row.change, style),
            Text(row.share, style),
        )
    console.print(table)
    for row in _peaks(block.rows):
        if told := categories(row.pair):
            print_line(console, f"  {row.case}: at the peak {told}")
    print_line(console)


def _peaks(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.metric == "peak allocated" and row.direction != "same"]


def _print_alone(console: Console, where: str, records: Sequence[Record], others: Sequence[Record]) -> None:
    if not records:
        return
    print_line(console, Text(f"only in the {where}", style="bold"))
    for record in records:
        changed = changed_settings(record, others)
        told = f"  {record.key}  {record.name}" + (f" ({changed})" if changed else "")
        print_line(console, one_line(told))
    print_line(console)
