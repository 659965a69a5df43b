"""What the bytes at a case's peak are, on the console."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lorabench.record import Record
from lorabench.report.terminal import mib, print_line, print_records
from lorabench.wording import one_line


def print_attribution(console: Console, record: Record) -> None:
    """Tables by category, by layer and by tensor, in MiB; of a record without them, why it has none."""
    memory, told = record.memory, record.observations.get("attribution")
    if memory is None or not memory.categories or not isinstance(told, Mapping):
        print_records(console, [record])
        return
    peak = told["peak"]
    where = f"in {peak['phase']}, at operator {peak['number']} ({peak['operator']})"
    print_line(console, Text(one_line(f"{record.name} on {record.device.name}"), style="bold"))
    print_line(console, Text(one_line(f"peak: {mib(memory.peak_allocated_bytes)} MiB allocated, {where}")))
    print_line(console)
    amounts = {**memory.categories, "unattributed": memory.unattributed_bytes or 0}
    total = sum(amounts.values())
    shares = [[_words(name), mib(n_bytes), f"{100 * n_bytes / total:.1f}%"] for name, n_bytes in amounts.items()]
    _print(console, ("category", "MiB", "share"), shares, right=(1, 2))
    beyond = told.get("beyond_peak", {})
    for name, n_bytes in beyond.items():
        print_line(console, Text(one_line(f"beyond: {_words(name.removesuffix('_bytes'))} {mib(n_bytes)} MiB")))
    _print(console, ("layer", "MiB", "most of it"), _layers(told["modules"]), right=(1,))
    _print(console, ("category", "module", "made by", "tensors", "MiB", "saved"), _tensors(told["tensors"]), right=(4,))
    print_line(console, Text("saved: yes where autograd saved it, no where something else keeps it", style="dim"))


def _layers(modules: Mapping[str, Mapping[str, int]]) -> Iterable[Sequence[str]]:
    for name, amounts in modules.items():
        largest = max(amounts, key=lambda category: amounts[category])
        yield name or "(no module)", mib(sum(amounts.values())), f"{_words(largest)} {mib(amounts[largest])}"


def _tensors(tensors: Iterable[Mapping[str, Any]]) -> Iterable[Sequence[str]]:
    for one in tensors:
        shape = "x".join(map(str, one["shape"]))
        kind = f"{one['count']} of {shape} {one['dtype']}"
        saved = "yes" if one["is_saved"] else "no"
        yield _words(one["category"]), one["module"] or "(no module)", one["operator"], kind, mib(one["bytes"]), saved


def _print(console: Console, titles: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for index, title in enumerate(titles):
        table.add_column(title, justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    console.print(table)
    print_line(console)


def _words(name: str) -> str:
    return name.replace("_", " ")
