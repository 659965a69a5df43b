"""One case of the results beside the baseline's: each number, what is behind a growth, which times moved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal

from lorabench.analysis.gate.metrics import PEAK, REQUESTED, gated, requested, shown
from lorabench.analysis.gate.slim import module_bytes
from lorabench.analysis.gate.tolerances import Tolerance, last_covering
from lorabench.record import Proof, Record

Change = Literal["more", "fewer", "equal", "lost", "new"]
Kind = Literal["not ok", "lost", "more", "new", "fewer", "equal"]
"""What became of a case, the worst first. ``lost`` and ``new`` also where only a number of it is."""

TIME_FLOOR = 0.03
"""How far apart two medians must be to be told: the floor of ``lorabench ab``. Their intervals must be apart too."""
_UNTOLD = frozenset({"outlier_share", "seeds"})


@dataclass(frozen=True)
class Number:
    """One metric of one case in bytes; None where a side lacks it."""

    metric: str
    base: int | None
    head: int | None
    tolerance: Tolerance | None = None

    @property
    def difference(self) -> int | None:
        """Head less base."""
        return None if self.base is None or self.head is None else self.head - self.base

    @property
    def change(self) -> Change:
        """``equal`` within the tolerance, which is 0 bytes where there is none."""
        if self.difference is None:
            return "lost" if self.head is None else "new"
        if abs(self.difference) <= (self.tolerance.n_bytes if self.tolerance else 0):
            return "equal"
        return "more" if self.difference > 0 else "fewer"


@dataclass(frozen=True)
class Growth:
    """Bytes at the peak that came or went, the largest growth first: ``name`` is a category, or a module."""

    name: str
    base: int
    head: int

    @property
    def difference(self) -> int:
        return self.head - self.base


@dataclass(frozen=True)
class Slower:
    """A phase whose median moved by more than :data:`TIME_FLOOR`, in seconds."""

    phase: str
    base_s: float
    head_s: float

    @property
    def share(self) -> float:
        """Above 0 where it got slower."""
        return self.head_s / self.base_s - 1


@dataclass(frozen=True)
class Outcome:
    """A case: its record in the baseline, its record in the results, or both. ``untold`` are shown and not judged."""

    base: Record | None
    head: Record | None
    numbers: tuple[Number, ...] = ()
    untold: tuple[Number, ...] = ()
    categories: tuple[Growth, ...] = ()
    modules: tuple[Growth, ...] = ()
    proof: tuple[str, ...] = ()
    times: tuple[Slower, ...] = ()

    @property
    def record(self) -> Record:
        """The one that it is named by."""
        found = self.head or self.base
        assert found is not None
        return found

    @property
    def kind(self) -> Kind:
        if self.head is None:
            return "lost"
        if self.head.status != "ok":
            return "not ok"
        changes = {number.change for number in self.numbers}
        order: tuple[Literal["lost", "more", "new", "fewer"], ...] = ("lost", "more", "new", "fewer")
        return next((change for change in order if change in changes), "new" if self.base is None else "equal")

    @property
    def growth(self) -> int:
        """By how much the number that grew most did; 0 where none did."""
        return max((number.difference or 0 for number in self.numbers if number.change == "more"), default=0)


def compare(base: Record, head: Record, tolerances: Sequence[Tolerance]) -> Outcome:
    """``head`` against ``base``. Of a case that did not end ``ok`` no number is judged: there are only parts of it."""
    if head.status != "ok":
        return Outcome(base, head)
    before, after = gated(base.memory), gated(head.memory)
    numbers = [
        Number(metric, before.get(metric), after.get(metric), last_covering(tolerances, metric, base, head))
        for metric in {**before, **after}
    ]
    asked_before, asked_after = requested(base.memory), requested(head.memory)
    # At another peak other tensors live: only where it is as high do more bytes mean that something grew.
    if before.get(PEAK) == after.get(PEAK) and asked_before is not None and asked_after is not None:
        tolerance = last_covering(tolerances, REQUESTED, base, head)
        numbers.append(Number(REQUESTED, asked_before, asked_after, tolerance))
    told = shown(base.memory), shown(head.memory)
    return Outcome(
        base,
        head,
        tuple(numbers),
        tuple(Number(metric, told[0].get(metric), told[1].get(metric)) for metric in {**told[0], **told[1]}),
        _growth(_categories(base), _categories(head)),
        _growth(_modules(base), _modules(head)),
        tuple(_proof(base.proof, head.proof)),
        tuple(_times(base, head)),
    )


def _categories(record: Record) -> Mapping[str, int]:
    return record.memory.categories if record.memory else {}


def _modules(record: Record) -> Mapping[str, int]:
    return {module: sum(categories.values()) for module, categories in module_bytes(record).items()}


def _growth(before: Mapping[str, int], after: Mapping[str, int]) -> tuple[Growth, ...]:
    if not before or not after:
        return ()
    found = (Growth(name, before.get(name, 0), after.get(name, 0)) for name in {**before, **after})
    return tuple(sorted((one for one in found if one.difference), key=lambda one: (-one.difference, one.name)))


def _proof(before: Proof | None, after: Proof | None) -> Iterator[str]:
    """What was built or ran differently, ``quantized_modules 112 -> 111``: the likely cause."""
    if before is None or after is None:
        return
    for name in (field.name for field in fields(Proof) if field.name not in _UNTOLD):
        old, new = getattr(before, name), getattr(after, name)
        if old != new and isinstance(old, int | float | str | None) and isinstance(new, int | float | str | None):
            yield f"{name} {old} -> {new}"


def _times(base: Record, head: Record) -> Iterator[Slower]:
    for phase in base.latency.keys() & head.latency.keys():
        before, after = base.latency[phase], head.latency[phase]
        (low, high), (other_low, other_high) = before.ci95_s, after.ci95_s
        apart = high < other_low or other_high < low
        if apart and before.median_s > 0 and abs(after.median_s / before.median_s - 1) > TIME_FLOOR:
            yield Slower(phase, before.median_s, after.median_s)
