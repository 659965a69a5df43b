"""How near a measured time is to what the device could do: a roofline for each phase.

The limit of a phase is the longer of two times: its operations at the speed of a large matrix product of their dtype,
and its bytes at the speed of a large copy (Williams, Waterman and Patterson 2009, Roofline). Work and ceilings were
counted and measured in the runs themselves (``observations.work`` and ``observations.ceilings`` of records).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from lorabench.record import Record

PHASES = ("step", "prefill", "decode")
COPY = "copy"

Ceilings = Mapping[str, float]
Lack = Literal["work", "ceiling"]
"""What a timed phase has no limit for: its work was not counted, or a ceiling that it needs was not measured."""


@dataclass(frozen=True)
class Roof:
    """One phase of one record. ``flops`` are operations in all dtypes; times in seconds; a decode is one token's."""

    record: Record
    phase: str
    flops: int
    moved_bytes: int
    compute_s: float
    memory_s: float
    median_s: float

    @property
    def limit_s(self) -> float:
        """The least time, if operations and bytes were to hide each other altogether."""
        return max(self.compute_s, self.memory_s)

    @property
    def bound(self) -> Literal["compute", "memory"]:
        return "compute" if self.compute_s >= self.memory_s else "memory"

    @property
    def share(self) -> float:
        """Of the limit that was reached; above 1 where caches move bytes faster than memory does."""
        return self.limit_s / self.median_s


def rooflines(records: Iterable[Record]) -> list[Roof]:
    """Of each phase that was timed, counted, and run where ceilings were measured; in the order of ``records``."""
    return [one for one in _timed(records) if isinstance(one, Roof)]


def without_limit(records: Iterable[Record]) -> dict[Lack, int]:
    """How many timed phases have no roofline, by what they lack; nothing that none lacks."""
    counts = Counter(one for one in _timed(records) if not isinstance(one, Roof))
    return {lack: counts[lack] for lack in get_args(Lack) if counts[lack]}


def ceilings_of(records: Iterable[Record]) -> dict[str, Ceilings]:
    """By environment: the highest that was measured in it, as of a ceiling it should be."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for record in records:
        ceilings = record.observations.get("ceilings")
        for name, speed in ceilings.items() if isinstance(ceilings, Mapping) else ():
            if _is_positive(speed):
                best = found[record.environment]
                best[name] = max(best.get(name, 0.0), speed)
    return dict(found)


def _timed(records: Iterable[Record]) -> Iterator[Roof | Lack]:
    """Of each timed phase its roofline, or what it lacks for one."""
    known = list(records)
    ceilings = ceilings_of(known)
    for record in known:
        for phase in PHASES if record.status == "ok" else ():
            timing = record.latency.get(phase)
            if timing is not None and timing.median_s > 0:
                yield _roof(record, phase, timing.median_s, ceilings.get(record.environment, {}))


def _roof(record: Record, phase: str, median_s: float, ceilings: Ceilings) -> Roof | Lack:
    work = record.observations.get("work")
    counted = work.get(phase) if isinstance(work, Mapping) else None
    if not isinstance(counted, Mapping):
        return "work"
    flops, moved_bytes = counted.get("flops"), counted.get("moved_bytes")
    # Observations are not checked when a file is read.
    if not isinstance(flops, Mapping) or not all(map(_is_positive, (moved_bytes, *flops.values()))):
        return "work"
    if COPY not in ceilings or not flops.keys() <= ceilings.keys():
        return "ceiling"
    assert isinstance(moved_bytes, int | float)
    return Roof(
        record=record,
        phase=phase,
        flops=int(sum(flops.values())),
        moved_bytes=int(moved_bytes),
        compute_s=sum(count / ceilings[dtype] for dtype, count in flops.items()),
        memory_s=moved_bytes / ceilings[COPY],
        median_s=median_s,
    )


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
