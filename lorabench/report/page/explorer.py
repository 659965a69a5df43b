"""What the page's explorer shows: a row for every record, and whole records to open, packed to fit the page."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from lorabench.analysis.columns import COLUMNS, COUNT, FLAG, NUMBER
from lorabench.record import Record, as_line
from lorabench.report.page.material import Entry, Material, device_label, in_each_scenario
from lorabench.report.page.quantities import heading, is_bytes, is_seconds

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 20_000
ROW_BYTES = 3_000_000
"""Of the rows, packed: 20,000 take half of it, unless their names or errors are out of the ordinary."""
_CHUNK = 24
_ERROR_CHARACTERS = 300

# Many times faster than dataclasses.asdict.
_RECORD = TypeAdapter(Record)

_SHOWN = (
    *("device", "memory_static_bytes", "memory_dynamic_bytes", "memory_peak_allocated_bytes"),
    *("step_median_s", "prefill_median_s", "decode_median_s", "tokens_per_s", "status"),
)
"""Columns that stand in the table at first, where any record has them; the reader may choose others."""
_FACETS = (
    *("scenario", "model", "quantization", "task", "status", "device", "gradient_checkpointing", "adapter_state"),
    *("origin", "times"),
)
_LABELS = {
    "memory_static_bytes": "static",
    "memory_dynamic_bytes": "dynamic",
    "memory_peak_allocated_bytes": "peak",
    "memory_peak_reserved_bytes": "peak reserved",
    "memory_device_used_bytes": "device used",
    "wall_s": "wall time",
    "adapter_rank": "rank",
    "gradient_checkpointing": "checkpointing",
    "batch_size": "batch",
    "sequence_length": "length",
    "device": "device",
    "origin": "made",
    "times": "times",
}
_DESCRIPTIONS = {
    "device": "the hardware that the case ran on, or was predicted for",
    "origin": "in this run, or committed with the project",
    "times": "whether a timed phase drifts, spreads or jumps",
    "file": "the results file that has the record",
}
_BESIDE_MEDIAN = ("_ci95_low_s", "_ci95_high_s", "_unstable")
_NOT_ROWS = frozenset(
    {
        *("name", "device_type", "device_name", "device_total_bytes", "group", "world_size", "environment", "source"),
        *("architecture", "lorabench_version", "driver", "error_type", "error_message"),
    }
)


@dataclass(frozen=True)
class Packed:
    """Texts for the page, each gzip in base64, which cannot end a script element.

    ``rows`` holds the table; ``chunks`` hold whole records, some to a chunk, and ``places`` where each row's is.
    """

    rows: str
    chunks: tuple[str, ...]
    places: tuple[tuple[int, int] | None, ...]
    records: int

    @property
    def shown(self) -> int:
        """Of all ``records``, those in the rows."""
        return len(self.places)

    @property
    def whole(self) -> int:
        """Those in the chunks."""
        return sum(place is not None for place in self.places)


def pack(material: Material, table: pd.DataFrame, cited: frozenset[str], most_bytes: int) -> Packed:
    """Rows and, as far as they fit into ``most_bytes`` with them, whole records.

    ``table`` is the frame of the material's records, in order; ``cited`` are keys of evidence, which come first where
    not all whole records fit.
    """
    entries: Sequence[Entry] = material.entries[:MOST_ROWS]
    while len(rows := packed(_rows(entries, table))) > min(ROW_BYTES, most_bytes) and entries:
        entries = entries[: len(entries) // 2]
    chunks, places = _details(entries, cited, most_bytes - len(rows))
    return Packed(rows, chunks, places, len(material.entries))


def _rows(entries: Sequence[Entry], table: pd.DataFrame) -> dict[str, Any]:
    columns = _columns(table.iloc[: len(entries)], entries)
    return {
        "columns": [description for description, _ in columns.values()],
        "values": {name: values for name, (_, values) in columns.items()},
        "id": [entry.id for entry in entries],
        "name": [entry.name for entry in entries],
        "error": [_error(entry) for entry in entries],
        "label": [entry.label for entry in entries],
        "where": [entry.where for entry in entries],
        "also": _also(entries),
        "facets": [name for name in _FACETS if name in columns],
    }


def _also(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Where else an entry stands: under which scenario, as what, and ``before`` which row, in reading order."""
    index = {entry.id: number for number, entry in enumerate(entries)}
    others: list[dict[str, Any]] = []
    waiting: list[dict[str, Any]] = []
    for entry in in_each_scenario(entries):
        row = index[entry.id]
        if entry.record.scenario == entries[row].record.scenario:
            for other in waiting:
                other["before"] = row
            waiting = []
        else:
            named = {"scenario": entry.record.scenario, "name": entry.name, "label": entry.label}
            other = {"row": row, "before": len(entries), **named}
            others.append(other)
            waiting.append(other)
    return others


def packed(data: Any) -> str:
    """``data`` as JSON, gzip, base64."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # A lone surrogate, which JSON can carry, is no UTF-8; the same result whatever the time is.
    raw = text.encode("utf-8", "backslashreplace")
    return base64.b64encode(gzip.compress(raw, compresslevel=4, mtime=0)).decode()


def _details(
    entries: Sequence[Entry], cited: frozenset[str], most_bytes: int
) -> tuple[tuple[str, ...], tuple[tuple[int, int] | None, ...]]:
    """Chunks of whole records, and for each entry its chunk and its place there, or None where it did not fit."""

    def urgency(index: int) -> int:
        record = entries[index].record
        return 0 if record.status != "ok" else 1 if record.key in cited else 2

    order = sorted(range(len(entries)), key=urgency)
    places: list[tuple[int, int] | None] = [None] * len(entries)
    chunks: list[str] = []
    total_bytes = 0
    for start in range(0, len(order), _CHUNK):
        members = order[start : start + _CHUNK]
        chunk = packed([as_line(_RECORD.dump_python(entries[index].record, mode="json")) for index in members])
        total_bytes += len(chunk)
        if total_bytes > most_bytes:
            break
        for position, index in enumerate(members):
            places[index] = (len(chunks), position)
        chunks.append(chunk)
    return tuple(chunks), tuple(places)


def _columns(table: pd.DataFrame, entries: Sequence[Entry]) -> dict[str, tuple[dict[str, Any], list[Any]]]:
    """By name, what the page must know of a column, and its values; columns without any value are left out."""
    made: dict[str, list[Any]] = {
        "device": [device_label(entry.record) for entry in entries],
        "origin": ["committed" if entry.committed else "this run" for entry in entries],
        "times": [_times(entry) for entry in entries],
    }
    present = table.columns[table.notna().any()]
    for name in present:
        if name not in _NOT_ROWS and not name.endswith("_version"):
            column = table[name].astype(object)
            made[str(name)] = column.where(column.notna(), None).tolist()
    order = [*(name for name in _SHOWN if name in made), *(name for name in made if name not in _SHOWN)]
    return {name: (_describe(name, made[name]), made[name]) for name in order}


def _describe(name: str, values: Sequence[Any]) -> dict[str, Any]:
    column = COLUMNS.get(name)
    if is_bytes(name):
        kind = "bytes"
    elif is_seconds(name):
        kind = "seconds"
    elif column is not None and column.dtype in (COUNT, NUMBER):
        kind = "number"
    else:
        kind = "flag" if column is not None and column.dtype == FLAG else "text"
    several = any(value != values[0] for value in values)
    return {
        "name": name,
        "label": _LABELS.get(name, heading(name.replace("_median_s", "_s"))),
        "kind": kind,
        "description": _DESCRIPTIONS[name] if column is None else column.description,
        "shown": name in _SHOWN and (several or name != "device"),
        # What a median's cell shows beside it, or after it, is no column of its own.
        "offered": not name.endswith(_BESIDE_MEDIAN),
    }


def _times(entry: Entry) -> str | None:
    if not entry.record.latency:
        return None
    return "unstable" if entry.unstable else "stable"


def _error(entry: Entry) -> str | None:
    error = entry.record.error
    return None if error is None else f"{error.type}: {error.message}"[:_ERROR_CHARACTERS]
