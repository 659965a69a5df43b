"""A comparison in words: one row for each number of each case, as terminal, Markdown and page show it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from lorabench.analysis.comparison import EXACT, Comparison, Direction, Metric, Pair
from lorabench.record import Record
from lorabench.report.page.quantities import ABSENT, number, quantity
from lorabench.report.terminal import labels, mib, milliseconds, reading_order, signs
from lorabench.wording import counted, days, one_line

TIMES_LEGEND = (
    "two runs differ by what else the machine did, too: a change in time is settled by lorabench ab, which alternates "
    "both sides"
)
_CATEGORIES = 4


@dataclass(frozen=True)
class Row:
    """``case`` is the label within its scenario; ``metric`` the name that the row is shown under."""

    case: str
    metric: str
    base: str
    head: str
    change: str
    share: str
    direction: Direction
    pair: Pair
    weight: float = 0.0

    @property
    def changed(self) -> bool:
        return self.direction in ("more", "less")


@dataclass(frozen=True)
class Block:
    """The cases of one scenario on one device, with their rows."""

    title: str
    rows: tuple[Row, ...]


def urgency(row: Row) -> tuple[int, bool, float]:
    """To sort by: how a case ended, then what is exact, what is reserved, and times; more before less; then by size."""
    kinds = ("status", *EXACT, "peak reserved")
    kind = next((0 if n == 0 else 1 if n <= len(EXACT) else 2 for n, name in enumerate(kinds) if name == row.metric), 3)
    return kind, row.direction != "more", -row.weight


def blocks(comparison: Comparison, *, everywhere: bool = False) -> list[Block]:
    """By scenario and device of the head, in reading order; a case once, or ``everywhere`` that it is asked for."""
    named = [
        (record, pair)
        for pair in comparison.pairs
        for record in (pair.head.in_each_scenario() if everywhere else (pair.head,))
    ]
    ordered = sorted(named, key=lambda one: reading_order(one[0]))
    found = []
    for (scenario, device), members in groupby(ordered, key=lambda one: (one[0].scenario, one[0].device.name)):
        group = list(members)
        names = labels([record for record, _ in group])
        rows = [row for (_, pair), name in zip(group, names, strict=True) for row in rows_of(pair, name)]
        found.append(Block(one_line(f"{scenario} on {device}"), tuple(rows)))
    return found


def rows_of(pair: Pair, case: str, *, fold: bool = True) -> Iterator[Row]:
    """Statuses first where either is not ok. Memory that is the same to the byte is one row, unless ``fold`` is off."""
    if pair.base.status != "ok" or pair.head.status != "ok":
        same = pair.base.status == pair.head.status
        direction: Direction = "same" if same else "less" if pair.head.status == "ok" else "more"
        yield Row(case, "status", pair.base.status, pair.head.status, "same" if same else "", "", direction, pair, 9e9)
    memory = [metric for metric in pair.metrics if metric.kind == "bytes"]
    if fold and len(memory) > 1 and all(metric.direction == "same" for metric in memory):
        peak = next((metric for metric in memory if metric.name == EXACT[-1]), memory[0])
        yield _row(pair, case, peak, f"memory, {peak.name.removesuffix(' allocated')}")
    else:
        for metric in memory:
            yield _row(pair, case, metric, metric.name)
    for metric in pair.metrics:
        if metric.kind == "seconds":
            yield _row(pair, case, metric, metric.name)


def _row(pair: Pair, case: str, metric: Metric, name: str) -> Row:
    if metric.kind == "bytes":
        base, head = (mib(None if value is None else int(value)) for value in (metric.base, metric.head))
    else:
        base, head = milliseconds(metric.base_timing), milliseconds(metric.head_timing)
    weight = abs(metric.share or 0) if metric.direction in ("more", "less") else 0.0
    change, share = change_of(metric), share_of(metric)
    return Row(case, name, base, head, change, share, metric.direction, pair, weight)


def change_of(metric: Metric) -> str:
    """``+2.5 MiB``, ``−512 B``, ``(+1.2 ms)`` where the intervals overlap, ``same`` to the byte."""  # noqa: RUF002
    if metric.difference is None:
        return ABSENT
    if metric.kind == "bytes":
        return "same" if metric.difference == 0 else _signed(quantity(int(metric.difference), "bytes", 3))
    text = _signed(quantity(metric.difference, "s", 3))
    return f"({text})" if metric.overlapping else text


def share_of(metric: Metric) -> str:
    """The change in percent of the base, with as many digits as tell it from none."""
    if metric.share is None or metric.direction == "same":
        return ""
    percent = 100 * metric.share
    if 0 < abs(percent) < 0.001:
        text = "+<0.001%" if percent > 0 else "\u2212<0.001%"
    else:
        text = _signed(f"{percent:.1f}%".replace("-", "\u2212") if abs(percent) >= 1 else f"{number(percent, 2)}%")
    return f"({text})" if metric.overlapping else text


def _signed(text: str) -> str:
    return text if text.startswith(("\u2212", "0 ", "0%")) else f"+{text}"


def categories(pair: Pair) -> str:
    """What grew or shrank at the peak, the largest first: ``activations +12 MiB, temporaries −512 B``."""  # noqa: RUF002
    told = [
        f"{one_line(name).replace('_', ' ')} {_signed(quantity(size, 'bytes', 3))}" for name, size in pair.categories
    ]
    more = f" and {len(told) - _CATEGORIES} more" if len(told) > _CATEGORIES else ""
    return ", ".join(told[:_CATEGORIES]) + more


def legend(comparison: Comparison) -> str:
    """The units and signs of the rows, without those that no row has."""
    metrics = [metric for pair in comparison.pairs for metric in pair.metrics if metric.kind == "seconds"]
    timings = [timing for metric in metrics for timing in (metric.base_timing, metric.head_timing)]
    lines = ["memory in MiB, times in ms" if metrics else "memory in MiB", *signs(timings)]
    if any(metric.overlapping for metric in metrics):
        lines.append("a change in time stands in brackets where the two intervals overlap")
    return "; ".join(lines)


def summary(comparison: Comparison) -> list[str]:
    """What the comparison comes to, a line for memory, one for times, and others where there is need."""
    lines = [_memory_line(comparison), *beyond_memory(comparison)]
    for where, records in (("base", comparison.only_base), ("head", comparison.only_head)):
        if records:
            lines.append(f"{counted(len(records), 'case')} in the {where} alone")
    return lines


def _memory_line(comparison: Comparison) -> str:
    ways = [pair.bytes_direction for pair in comparison.pairs]
    if not ways:
        return "no case is in both files: cases are matched by their key, which follows from their settings"
    told = f"{ways.count('more'):,} with more bytes, {ways.count('less'):,} with fewer, {ways.count('same'):,} the same"
    return f"{counted(len(ways), 'case')} in both files: {told}"


def beyond_memory(comparison: Comparison) -> list[str]:
    """How many times are longer or shorter, and how many cases no longer end ok; each only where there are any."""
    metrics = [metric for pair in comparison.pairs for metric in pair.metrics if metric.kind == "seconds"]
    ways = [metric.direction for metric in metrics if metric.difference is not None]
    worse = sum(pair.base.status == "ok" and pair.head.status != "ok" for pair in comparison.pairs)
    lines = []
    if ways:
        told = f"{ways.count('more'):,} longer, {ways.count('less'):,} shorter"
        lines.append(f"{len(ways):,} times in both: {told}, {ways.count('unclear'):,} with intervals that overlap")
    if worse:
        lines.append(f"{counted(worse, 'case')} ended ok in the base and not in the head")
    return lines


def side_line(name: str, records: Sequence[Record], devices: Iterable[str]) -> str:
    where = ", ".join(dict.fromkeys(devices)) or "nowhere"
    when = days(record.started_at for record in records)
    return one_line(f"{name} ({counted(len(records), 'record')}, {where}{f', {when}' if when else ''})")
