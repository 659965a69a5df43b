"""The console that commands print on, and the table in which ``run`` and ``show`` end."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lorabench.case import Case, format_value
from lorabench.record import Record, Status, Timing
from lorabench.wording import one_line

MIB = 2**20
STATUS_STYLES: dict[Status, str] = {
    "ok": "green",
    "oom": "yellow",
    "timeout": "yellow",
    "invalid": "bold red",
    "failed": "bold red",
}
LEGEND = "static, dynamic and peak in MiB"
CARD_LEGEND = (
    "headroom in MiB: what the card leaves less the most that the allocator held, loading too; below 0 it lacks"
)
_ABSENT = "-"
_HEADLINES = {"train": ("step",), "infer": ("prefill", "decode"), "lifecycle": ("attach", "merge", "save")}
# Nothing wraps in a pipe, where a line is a line.
_PIPE_COLUMNS = 100_000


def open_console(stream: TextIO | None = None) -> Console:
    """A console on ``stream`` (stdout by default) that wraps tables on a terminal alone and honours NO_COLOR."""
    stream = stream or sys.stdout
    width = None if stream.isatty() else _PIPE_COLUMNS
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def print_line(console: Console, text: str | Text = "") -> None:
    """One line that is never wrapped or cut, whatever the width."""
    console.print(text, soft_wrap=True)


def records_of(cases: Iterable[Case], records: Iterable[Record]) -> list[Record]:
    """The records of ``cases``, under the name of each: what several scenarios share was run once, for all of them."""
    made: dict[tuple[str, int, str | None], list[Record]] = {}
    for record in records:
        made.setdefault((record.key, record.seed, record.group), []).append(record)
    return [
        replace(record, name=case.name, scenario=case.scenario, case=case.to_dict())
        for case in cases
        for record in made.get((case.key, case.seed, case.group), ())
    ]


def in_order(records: Iterable[Record]) -> list[Record]:
    """By scenario and by the values of what is varied, numbers as numbers: a run shuffles its cases."""
    return sorted(records, key=reading_order)


def reading_order(record: Record) -> tuple[Any, ...]:
    """The key that :func:`in_order` sorts by."""
    values = [value for _, value in record.case["axes"]]
    keys = [(0, value) if isinstance(value, int | float) else (1, format_value(value)) for value in values]
    return record.scenario, record.device.name, keys, record.repeat


def print_records(console: Console, records: Sequence[Record]) -> None:
    """A table for each scenario and device, predictions apart, with what there is to say about its cases."""
    tables: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        tables.setdefault((record.scenario, record.device.name, record.source), []).append(record)
    for members in tables.values():
        print_line(console, Text(_heading(members), style="bold"))
        console.print(_table(members))
        for note in _notes(members):
            print_line(console, Text("  ") + note)
        print_line(console)
    for text in dict.fromkeys(text for record in records for text in _assumed(record)):
        print_line(console, Text(one_line(f"assumed: {text}"), style="yellow"))
    if records:
        timings = [
            record.latency.get(phase) for members in tables.values() for phase in _phases(members) for record in members
        ]
        print_line(console, Text("; ".join([LEGEND, *signs(timings)]), style="dim"))
    if any("fits" in record.observations for record in records):
        print_line(console, Text(CARD_LEGEND, style="dim"))


def _assumed(record: Record) -> Sequence[str]:
    texts: Sequence[str] = record.observations.get("fits", {}).get("assumptions", ())
    return texts


def mib(n_bytes: int | None) -> str:
    """Bytes as MiB with one decimal."""
    return _ABSENT if n_bytes is None else f"{n_bytes / MIB:.1f}"


def milliseconds(timing: Timing | None) -> str:
    """The median in ms and the wider half of its 95% interval, ``74.1 ±0.3``; an unstable one has a ``~`` before it.

    A half too small for the median's digits is below the last of them, ``74.1 ±<0.1``; ``±0.0`` is none at all.
    """
    if timing is None:
        return _ABSENT
    median_ms = timing.median_s * 1e3
    half_ms = max(timing.median_s - timing.ci95_s[0], timing.ci95_s[1] - timing.median_s) * 1e3
    digits = 0 if median_ms >= 1000 else 1 if median_ms >= 10 else 2 if median_ms >= 1 else 3
    half = f"{half_ms:.{digits}f}"
    if half_ms > 0 and float(half) == 0:
        half = f"<{10**-digits:.{digits}f}"
    return f"{'~' if timing.unstable else ''}{median_ms:.{digits}f} ±{half}"


def signs(timings: Iterable[Timing | None]) -> Iterator[str]:
    """What the signs mean that :func:`milliseconds` gave to any of ``timings``."""
    timed = [timing for timing in timings if timing is not None]
    if timed:
        yield "± is the wider half of the median's 95% interval"
    if any(timing.unstable for timing in timed):
        yield "~ marks unstable times"


def per_second(tokens_per_s: float | None) -> str:
    if tokens_per_s is None:
        return _ABSENT
    return f"{tokens_per_s:.0f}" if tokens_per_s >= 100 else f"{tokens_per_s:.1f}"


def _axis_names(record: Record) -> tuple[str, ...]:
    return tuple(axis for axis, _ in record.case["axes"])


def _heading(members: Sequence[Record]) -> str:
    first = members[0]
    models = dict.fromkeys(record.case["model"] for record in members)
    parts = [first.case["task"], *models] if len(models) == 1 else [first.case["task"]]
    axes = {_axis_names(record) for record in members}
    if len(axes) == 1 and axes != {()}:
        parts.append("varied: " + ", ".join(*axes))
    how = "predicted for" if first.source == "predicted" else "on"
    return one_line(f"{first.scenario} ({'; '.join(parts)}) {how} {first.device.name}")


def labels(members: Sequence[Record]) -> list[str]:
    """What tells the rows apart: values alone where the heading names their axes, repeats where there are several.

    Files hold what several runs of a scenario put into them: rows that are still alike have their seed, or their key.
    """
    same_axes = len({_axis_names(record) for record in members}) == 1
    repeated = len({record.repeat for record in members}) > 1
    found = []
    for record in members:
        axes = record.case["axes"]
        values = [format_value(value) if same_axes else f"{axis}={format_value(value)}" for axis, value in axes]
        if repeated:
            values.append(f"#{record.repeat + 1}")
        found.append(one_line(" ".join(values) or record.scenario))
    for tell in (_seed, _key):
        alike: dict[str, set[str]] = {}
        for label, record in zip(found, members, strict=True):
            alike.setdefault(label, set()).add(tell(record))
        found = [
            f"{label} {tell(record)}" if len(alike[label]) > 1 else label
            for label, record in zip(found, members, strict=True)
        ]
    return found


def _seed(record: Record) -> str:
    return f"seed {record.seed}"


def _key(record: Record) -> str:
    return record.key


def _table(members: Sequence[Record]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("case", overflow="fold", min_width=10)
    for title in ("static", "dynamic", "peak"):
        table.add_column(title, justify="right", no_wrap=True)
    phases = _phases(members)
    for phase in phases:
        table.add_column(f"{phase} ms", justify="right", no_wrap=True)
    # A prediction has no time: leave its columns out.
    has_rate = any(record.tokens_per_s is not None for record in members)
    if has_rate:
        table.add_column("tokens/s", justify="right", no_wrap=True)
    # Of a prediction for a named card.
    has_card = any("fits" in record.observations for record in members)
    if has_card:
        table.add_column("fits", no_wrap=True)
        table.add_column("headroom", justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for record, label in zip(members, labels(members), strict=True):
        memory = record.memory
        row = [Text(label)]
        for n_bytes in (
            (memory.static_bytes, memory.dynamic_bytes, memory.peak_allocated_bytes) if memory else (None, None, None)
        ):
            row.append(Text(mib(n_bytes)))
        row.extend(Text(milliseconds(record.latency.get(phase))) for phase in phases)
        if has_rate:
            row.append(Text(per_second(record.tokens_per_s)))
        if has_card:
            fits = record.observations.get("fits", {})
            row.append(Text({True: "yes", False: "no"}.get(fits.get("fits"), _ABSENT)))
            row.append(Text(mib(fits.get("headroom_bytes"))))
        table.add_row(*row, Text(record.status, style=STATUS_STYLES[record.status]))
    return table


def _phases(members: Sequence[Record]) -> list[str]:
    """The phases whose time heads the table, of those that were timed."""
    timed = dict.fromkeys(phase for record in members for phase in record.latency)
    wanted = _HEADLINES.get(members[0].case["task"], tuple(timed))
    return [phase for phase in wanted if phase in timed]


def _notes(members: Sequence[Record]) -> Iterator[Text]:
    phases = _phases(members)
    for record, label in zip(members, labels(members), strict=True):
        if record.error is not None:
            where = f" in {record.error.phase}" if record.error.phase else ""
            text = f"{label}: {record.status}{where}: {record.error.type}: {record.error.message}"
            yield Text(one_line(text), style=STATUS_STYLES[record.status])
        for warning in record.observations.get("warnings", ()):
            yield Text(one_line(f"{label}: warning: {warning}"), style="yellow")
        unstable = [
            f"{phase} {timing.reason}" for phase in phases if (timing := record.latency.get(phase)) and timing.unstable
        ]
        if unstable:
            yield Text(one_line(f"{label}: unstable: {'; '.join(unstable)}"), style="yellow")
