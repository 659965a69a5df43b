"""A record or an environment written out for reading: nothing left out, readable units beside raw numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console

from lorabench.report.terminal import mib, print_line
from lorabench.wording import one_line


def print_details(console: Console, data: Mapping[str, Any]) -> None:
    """One line a value, indented by depth; no line is wrapped."""
    for line in detail_lines(data):
        print_line(console, line)


def detail_lines(data: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    """``name: value`` for each value of ``data``, nested mappings indented by two spaces."""
    indent = "  " * depth
    for name, value in data.items():
        if isinstance(value, Mapping) and value:
            yield f"{indent}{one_line(name)}:"
            yield from detail_lines(value, depth + 1)
        else:
            yield f"{indent}{one_line(name)}: {_readable(name, value)}"


def _readable(name: str, value: Any) -> str:
    if value is None or value == {}:
        return "-"
    if isinstance(value, str):
        return one_line(value)
    text = json.dumps(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and name.endswith("_bytes"):
        return f"{text} ({mib(value)} MiB)"
    if is_number and name.endswith("_s") and not name.endswith("_per_s"):
        return f"{text} ({value * 1e3:.3f} ms)" if value < 1 else text
    return text
