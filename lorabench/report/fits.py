"""The table in which ``lorabench fit`` ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lorabench.case import format_value
from lorabench.report.terminal import mib, print_line
from lorabench.wording import one_line

LEGEND = "headroom in MiB: what is usable less the most that the allocator held; it keeps cache while there is room"
_STYLES = {"memory": "green", "limit": "cyan", "failed": "bold red"}


def print_answers(console: Console, answers: Sequence[Mapping[str, Any]]) -> None:
    """A table for each scenario, from the plain data of :class:`lorabench.fitting.Answer`."""
    tables: dict[str, list[Mapping[str, Any]]] = {}
    for answer in answers:
        tables.setdefault(answer["scenario"], []).append(answer)
    for members in tables.values():
        print_line(console, Text(_heading(members), style="bold"))
        console.print(_table(members))
        print_line(console)
    for text in dict.fromkeys(text for answer in answers for text in answer["assumptions"]):
        print_line(console, Text(f"assumed: {one_line(text)}", style="yellow"))
    print_line(console, Text(LEGEND, style="dim"))


def _heading(members: Sequence[Mapping[str, Any]]) -> str:
    first = members[0]
    models = dict.fromkeys(answer["case"]["model"] for answer in members)
    parts = [first["case"]["task"], *models] if len(models) == 1 else [first["case"]["task"]]
    text = f"{first['scenario']} ({'; '.join(parts)}): the largest {first['over']} that fits {first['gpu']}"
    usable = _range(mib(answer["usable_bytes"]) for answer in members)
    text += f", of which {usable} MiB are usable"
    if any(answer["margin_bytes"] for answer in members):
        text += f" and {_range(mib(answer['margin_bytes']) for answer in members)} are kept free"
    return one_line(text)


def _range(texts: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(texts))


def _table(members: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("case", overflow="fold", min_width=10)
    table.add_column(members[0]["over"], justify="right", no_wrap=True)
    table.add_column("headroom", justify="right", no_wrap=True)
    table.add_column("stopped by", overflow="fold")
    for answer in members:
        largest = answer["largest"]
        axes = answer["case"]["axes"]
        label = " ".join(f"{axis}={format_value(value)}" for axis, value in axes) or answer["scenario"]
        table.add_row(
            Text(one_line(label)),
            Text("none" if largest is None else str(largest)),
            Text(mib(answer["headroom_bytes"])),
            Text(one_line(f"{answer['stopped_by']}: {answer['reason']}"), style=_STYLES[answer["stopped_by"]]),
        )
    return table
