"""Two results files side by side: which cases both have, how far apart their bytes and times are. Judges nothing."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lorabench.analysis.matching import match_by
from lorabench.environment import Environment
from lorabench.record import Memory, Record, Timing
from lorabench.results import Results

Kind = Literal["bytes", "seconds"]
Direction = Literal["more", "less", "same", "unclear"]
"""Of the head, against the base. ``unclear`` is for times whose intervals overlap, and for what a side lacks."""

BYTES: Mapping[str, str] = {
    "static": "static_bytes",
    "dynamic": "dynamic_bytes",
    "peak allocated": "peak_allocated_bytes",
    "peak reserved": "peak_reserved_bytes",
}
"""What is compared of a case's memory, by the field of :class:`~lorabench.record.Memory` that holds it."""
EXACT = ("static", "dynamic", "peak allocated")
"""Those that repeat to the byte; what is reserved follows what the allocator found free."""
PHASES: Mapping[str, tuple[str, ...]] = {
    "train": ("step",),
    "infer": ("prefill", "decode"),
    "lifecycle": ("attach", "merge", "save"),
}
"""Phases whose medians are compared, as in the table that a run ends in."""
_LIBRARIES_FIRST = ("torch", "transformers", "peft", "bitsandbytes")
_NOT_SETTINGS = frozenset({"scenario", "measure", "axes", "group", "architecture"})


@dataclass(frozen=True)
class Metric:
    """One number of a case in both files: bytes, or the median of a phase in seconds. None where a side lacks it."""

    name: str
    kind: Kind
    base: float | None
    head: float | None
    base_timing: Timing | None = None
    head_timing: Timing | None = None

    @property
    def difference(self) -> float | None:
        """Head less base, in bytes or seconds."""
        return None if self.base is None or self.head is None else self.head - self.base

    @property
    def share(self) -> float | None:
        """The difference as a share of the base; None where the base is 0."""
        return None if self.difference is None or not self.base else self.difference / self.base

    @property
    def overlapping(self) -> bool:
        """Whether two times have 95% intervals with a value in common: their medians may be one and the same."""
        if self.base_timing is None or self.head_timing is None:
            return False
        (low, high), (other_low, other_high) = self.base_timing.ci95_s, self.head_timing.ci95_s
        return low <= other_high and other_low <= high

    @property
    def direction(self) -> Direction:
        if self.difference is None or self.overlapping:
            return "unclear"
        return "same" if self.difference == 0 else "more" if self.difference > 0 else "less"


@dataclass(frozen=True)
class Pair:
    """A case that both files have, with what is known of it on either side."""

    base: Record
    head: Record
    metrics: tuple[Metric, ...]

    @property
    def bytes_direction(self) -> Direction:
        """``more`` if any of :data:`EXACT` grew, ``less`` if any shrank and none grew."""
        found = {metric.direction for metric in self.metrics if metric.name in EXACT}
        return next((one for one in ("more", "less", "same") if one in found), "unclear")

    @property
    def categories(self) -> tuple[tuple[str, int], ...]:
        """What the bytes at the peak are that came or went: category and difference in bytes, the largest first."""
        if self.base.memory is None or self.head.memory is None:
            return ()
        before, after = self.base.memory.categories, self.head.memory.categories
        if not before or not after:
            return ()
        changes = ((name, after.get(name, 0) - before.get(name, 0)) for name in {**before, **after})
        return tuple(sorted(((n, d) for n, d in changes if d), key=lambda one: abs(one[1]), reverse=True))


@dataclass(frozen=True)
class Side:
    """One of the two files: its name, its records that count, and the environments that they name."""

    name: str
    records: tuple[Record, ...]
    environments: tuple[Environment, ...]


@dataclass(frozen=True)
class Note:
    """Something else that differs than the code under test: a device, a version, where the numbers come from."""

    name: str
    base: str
    head: str

    def __str__(self) -> str:
        return f"{self.name}: {self.base} in the base, {self.head} in the head"


@dataclass(frozen=True)
class Comparison:
    """``pairs`` in the order of the base; ``notes`` are what a reader must know before comparing anything."""

    base: Side
    head: Side
    pairs: tuple[Pair, ...]
    only_base: tuple[Record, ...]
    only_head: tuple[Record, ...]
    notes: tuple[Note, ...]


def compare(base: Results, head: Results) -> Comparison:
    """``base`` and ``head`` as files were read. Of records with one identity the last counts.

    Cases are matched by key, seed, repeat and group: first those on the same device from the same source, then those
    on whatever device, then measured ones with predicted ones.
    """
    sides = _side(base, "base"), _side(head, "head")
    pairs, only_base, only_head = _match(sides[0].records, sides[1].records)
    return Comparison(
        base=sides[0],
        head=sides[1],
        pairs=tuple(Pair(before, after, tuple(_metrics(before, after))) for before, after in pairs),
        only_base=only_base,
        only_head=only_head,
        notes=tuple(_notes(*sides)),
    )


def changed_settings(record: Record, others: Sequence[Record]) -> str | None:
    """In what a record of ``others`` with a name in common has other settings; None where no such record differs.

    The key follows the settings: a scenario that was edited leaves cases of one name under two keys.
    """
    names = set(record.names)
    namesake = next((other for other in others if names & {*other.names} and other.key != record.key), None)
    if namesake is None:
        return None
    before, after = _settings(record), _settings(namesake)
    changes = [
        f"{name} {before.get(name)} here, {after.get(name)} there"
        for name in before | after
        if before.get(name) != after.get(name)
    ]
    return "; ".join(changes) or "another architecture under the same name"


def _side(results: Results, fallback: str) -> Side:
    records = results.latest()
    named = dict.fromkeys(record.environment for record in records)
    # A file with no record yet was still made somewhere.
    environments = [results.environments[name] for name in named] or list(results.environments.values())
    return Side(fallback if results.path is None else str(results.path), tuple(records), tuple(environments))


def _identity(record: Record) -> tuple[Hashable, ...]:
    return record.key, record.seed, record.repeat, record.group


_LEVELS: tuple[Callable[[Record], Hashable], ...] = (
    lambda record: (*_identity(record), record.source, record.device.name),
    lambda record: (*_identity(record), record.source),
    _identity,
)


def _match(
    base: Sequence[Record], head: Sequence[Record]
) -> tuple[list[tuple[Record, Record]], tuple[Record, ...], tuple[Record, ...]]:
    found, left, right = match_by(_LEVELS, base, head)
    place = {id(record): number for number, record in enumerate(base)}
    pairs = sorted((pair for level in found for pair in level), key=lambda pair: place[id(pair[0])])
    return pairs, tuple(left), tuple(right)


def _metrics(base: Record, head: Record) -> Iterator[Metric]:
    before, after = base.memory or Memory(), head.memory or Memory()
    for name, field in BYTES.items():
        metric = Metric(name, "bytes", getattr(before, field), getattr(after, field))
        if metric.base is not None or metric.head is not None:
            yield metric
    for phase in PHASES.get(base.case["task"], ()):
        first, second = base.latency.get(phase), head.latency.get(phase)
        if first is not None or second is not None:
            yield Metric(
                phase,
                "seconds",
                None if first is None else first.median_s,
                None if second is None else second.median_s,
                first,
                second,
            )


def _notes(base: Side, head: Side) -> Iterator[Note]:
    def values(side: Side, of: Callable[[Environment], str | None]) -> str:
        return ", ".join(sorted({of(environment) or "none" for environment in side.environments})) or "none"

    def differing(name: str, of: Callable[[Environment], str | None]) -> Iterator[Note]:
        before, after = values(base, of), values(head, of)
        if before != after:
            yield Note(name, before, after)

    yield from differing("device", lambda one: one.device.name)
    sources = [" and ".join(sorted({record.source for record in side.records})) or "nothing" for side in (base, head)]
    if sources[0] != sources[1]:
        yield Note("source", sources[0], sources[1])
    libraries = {name for side in (base, head) for one in side.environments for name in one.versions}
    for library in sorted(libraries, key=lambda name: (name not in _LIBRARIES_FIRST, name)):
        yield from differing(library, lambda one, library=library: one.versions.get(library))  # type: ignore[misc]
    yield from differing("driver", lambda one: one.driver)
    yield from differing("lorabench", lambda one: one.lorabench)
    yield from differing("threads of torch", lambda one: str(one.cpu.get("torch_threads", "unknown")))


def _settings(record: Record) -> dict[str, Any]:
    flat = {name: value for name, value in record.case.items() if name not in _NOT_SETTINGS and name != "adapter"}
    adapter = record.case.get("adapter") or {}
    return flat | {f"adapter.{name}": value for name, value in adapter.items()}
