"""What a claim's test works on: the records of one scope, and ways to line up those that differ in one setting."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from operator import itemgetter
from typing import Any, Literal

from lorabench.record import Record

Where = Mapping[str, Any]
"""Settings that a record must have: ``{"task": "train", "adapter.rank": 8}``. A set or tuple of values means any of
them (a list setting is matched as a list), a function asks it."""

_NOT_SETTINGS = frozenset({"scenario", "measure", "axes", "group"})
# Settings that only one value of another gives a meaning; they follow it.
_FOLLOW = {
    "quantization": ("int8_threshold", "double_quantization", "compute_dtype"),
    "model": ("architecture", "adapter.target_modules"),
}
_PLAIN = frozenset({int, str, bool, float, type(None)})
_APPLIES_TO = {"int8_threshold": ("int8",), "double_quantization": ("nf4",), "compute_dtype": ("int8", "nf4")}


def setting(record: Record, name: str) -> Any:
    """One setting of the record's case; dots reach inside the adapter. None where there is none."""
    if "." not in name:
        return record.case.get(name)
    value: Any = record.case
    for part in name.split("."):
        # The plain kind first: asking an abstract class is slow, and this is asked a million times.
        if not isinstance(value, (dict, Mapping)):
            return None
        value = value.get(part)
    return value


def observed(record: Record, path: str) -> Any:
    """``observed(record, "lifecycle.merge.weights_equal")``; None where it was not observed."""
    value: Any = record.observations
    for part in path.split("."):
        # The plain kind first: asking an abstract class is slow, and this is asked a million times.
        if not isinstance(value, (dict, Mapping)):
            return None
        value = value.get(part)
    return value


def samples(record: Record, phase: str) -> tuple[float, ...]:
    """Timed samples of a phase, seconds; empty where it was not timed."""
    timing = record.latency.get(phase)
    return () if timing is None else timing.samples_s


def static_bytes(record: Record) -> int:
    """0 where the device did not tell."""
    return (record.memory.static_bytes if record.memory else None) or 0


def dynamic_bytes(record: Record) -> int:
    """0 where the device did not tell."""
    return (record.memory.dynamic_bytes if record.memory else None) or 0


@dataclass(frozen=True)
class Scope:
    """Where a finding holds: records of one device, and of one way of knowing, are judged together and never mixed."""

    device_type: Literal["cpu", "cuda", "fake"]
    device_name: str
    source: Literal["measured", "predicted"]
    models: tuple[str, ...] = ()
    versions: tuple[tuple[str, str], ...] = ()
    committed: bool = False

    def __str__(self) -> str:
        how = "predicted for " if self.source == "predicted" else ""
        models = f"; {', '.join(self.models)}" if self.models else ""
        return f"{how}{self.device_name}{models}"


@dataclass(frozen=True)
class Evidence:
    """The records of one scope. ``records`` are those that ended ``ok``; ``others`` ended otherwise."""

    scope: Scope
    records: tuple[Record, ...]
    others: tuple[Record, ...] = ()

    @cached_property
    def _settings(self) -> dict[int, tuple[tuple[str, ...], tuple[str, ...]]]:
        """By a record's ``id()``, what :func:`_settings` says. Once for all claims, for each lines up every record."""
        return {id(record): _settings(record) for record in self.records}

    @cached_property
    def _columns(self) -> dict[str, list[Any]]:
        return {}

    def _column(self, name: str) -> list[Any]:
        """One setting of every record. Kept, for claims ask for the same few of thousands of records."""
        if name not in self._columns:
            self._columns[name] = [setting(record, name) for record in self.records]
        return self._columns[name]

    def where(self, where: Where | None = None, **settings: Any) -> list[Record]:
        """Records with these settings, in the order of the file. Keyword settings are for names without dots."""
        kept: Iterable[int] = range(len(self.records))
        for name, wanted in {**(where or {}), **settings}.items():
            values, applies = self._column(name), _APPLIES_TO.get(name)
            if applies is not None:
                quantizations = self._column("quantization")
                kept = [i for i in kept if quantizations[i] not in applies or _matches(values[i], wanted)]
            else:
                kept = [i for i in kept if _matches(values[i], wanted)]
        return [self.records[i] for i in kept]

    def series(
        self, axis: str, where: Where | None = None, *, ignoring: Sequence[str] = (), in_turn: bool = False
    ) -> list[list[Record]]:
        """Records that are alike in every setting but ``axis``, sorted by it; only where it takes two values or more.

        Settings that follow the axis (the threshold of int8 follows the quantization) may differ, and so may those in
        ``ignoring``. A case that several scenarios ran counts once: the last record. ``in_turn`` asks for records that
        were timed in turn in one process, which times that are compared must be; without it, bytes are fine.
        """
        alike: dict[tuple[Any, ...], dict[str, Record]] = {}
        dropped = (axis, *_FOLLOW.get(axis, ()), *ignoring)
        for record in self.where(where):
            if in_turn and record.group is None:
                continue
            names, texts = self._settings[id(record)]
            kept, take = _kept(names, dropped)
            same = (kept, take(texts), *((record.group, record.repeat) if in_turn else ()))
            alike.setdefault(same, {})[_as_text(setting(record, axis))] = record
        found = [sorted(records.values(), key=lambda one: _order(setting(one, axis))) for records in alike.values()]
        return [records for records in found if len(records) > 1]

    def pairs(
        self,
        axis: str,
        first: Any,
        second: Any,
        where: Where | None = None,
        *,
        ignoring: Sequence[str] = (),
        in_turn: bool = False,
    ) -> list[tuple[Record, Record]]:
        """Of :meth:`series`, the two records whose ``axis`` is ``first`` and ``second``."""
        found = []
        for records in self.series(axis, where, ignoring=ignoring, in_turn=in_turn):
            by_value = [(setting(record, axis), record) for record in records]
            ones = [record for value, record in by_value if _equal(value, first)]
            others = [record for value, record in by_value if _equal(value, second)]
            if ones and others:
                found.append((ones[-1], others[-1]))
        return found


def applying(record: Record) -> dict[str, Any]:
    """The settings that apply to a record by name, in order; those of the adapter dotted."""
    settings = {name: value for name, value in record.case.items() if name not in _NOT_SETTINGS}
    if isinstance(settings.get("adapter"), Mapping):
        adapter = settings.pop("adapter")
        settings |= {f"adapter.{name}": value for name, value in adapter.items()}
    return {name: settings[name] for name in sorted(settings) if _applies(record, name)}


def outliers_by_chance(record: Record) -> bool:
    """Whether int8 multiplies outlier columns of random weights apart: they are an accident of the initialisation, and
    the record's dynamic bytes with them."""
    is_random = setting(record, "weights") != "pretrained"
    return is_random and bool(setting(record, "quantization") == "int8" and setting(record, "int8_threshold") != 0)


def fits(record: Record, where: Where) -> bool:
    """Whether the record's case has all of these settings; those of another quantization than its own do not count."""
    return all(_matches(setting(record, name), wanted) for name, wanted in where.items() if _applies(record, name))


def keys(records: Iterable[Record]) -> tuple[str, ...]:
    """The keys of records, each once, in order: a finding's ``evidence``."""
    return tuple(dict.fromkeys(record.key for record in records))


def _matches(value: Any, wanted: Any) -> bool:
    if type(wanted) in _PLAIN:
        return bool(value == wanted)
    if callable(wanted):
        return bool(wanted(value))
    if isinstance(wanted, set | frozenset | tuple):
        return any(_equal(value, one) for one in wanted)
    return _equal(value, wanted)


def _equal(value: Any, wanted: Any) -> bool:
    return bool(
        (list(value) if isinstance(value, tuple) else value) == (list(wanted) if isinstance(wanted, tuple) else wanted)
    )


def _applies(record: Record, name: str) -> bool:
    return name not in _APPLIES_TO or record.case.get("quantization") in _APPLIES_TO[name]


def _settings(record: Record) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the settings that apply to a record, in order, and each setting as text."""
    settings = applying(record)
    return tuple(settings), tuple(_as_text(value) for value in settings.values())


@cache
def _kept(names: tuple[str, ...], dropped: tuple[str, ...]) -> tuple[tuple[str, ...], Callable[[tuple[str, ...]], Any]]:
    """Those of ``names`` that are neither ``dropped`` nor inside of what is, and what takes their settings out."""
    inside = tuple(f"{gone}." for gone in dropped)
    places = [i for i, name in enumerate(names) if name not in dropped and not name.startswith(inside)]
    return tuple(names[i] for i in places), itemgetter(*places)


def _as_text(value: Any) -> str:
    """The same for equal settings alone; whole numbers and fractions, which JSON tells apart, are not equal."""
    # The plain ones, which most are, without an encoder.
    return repr(value) if type(value) in _PLAIN else json.dumps(value, sort_keys=True)


def _order(value: Any) -> tuple[bool, Any]:
    numeric = isinstance(value, int | float)
    return (not numeric, value if numeric else str(value))
