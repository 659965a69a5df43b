"""What people use instead of a prediction, beside what was measured: estimates of the peak, and how far off each is.

The estimates come with the predicted records of ``lorabench predict --estimates`` (``observations.estimates``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal, get_args

from lorabench.analysis.predicted import pairs
from lorabench.record import Record

Method = Literal["prediction", "accelerate_weights", "accelerate_training", "memory_tracker", "arithmetic"]
METHODS: tuple[Method, ...] = get_args(Method)
"""``prediction`` is lorabench's own, the others are the names of ``observations.estimates``."""

_NOT_TOLD = "the record does not say"


@dataclass(frozen=True)
class Estimate:
    """The peak that one method gives for one case, beside that of the measured record.

    ``absent`` says why there is no ``estimated_bytes``.
    """

    method: Method
    predicted: Record
    measured: Record
    measured_bytes: int
    estimated_bytes: int | None
    absent: str | None = None

    @property
    def error(self) -> float | None:
        """Signed, as a share of what was measured: above zero where more was estimated than used."""
        return None if self.estimated_bytes is None else self.estimated_bytes / self.measured_bytes - 1

    @property
    def quantized(self) -> bool:
        return self.measured.case["quantization"] in ("int8", "nf4")


@dataclass(frozen=True)
class MethodSummary:
    """Of one method, the errors over the ``cases`` that it has an estimate for; None of each where it has none."""

    method: Method
    cases: int
    absent: int
    median_error: float | None
    largest_error: float | None
    lowest: float | None
    highest: float | None


def estimates(records: Iterable[Record]) -> list[Estimate]:
    """One for each of :data:`METHODS`, of each case that was measured and predicted with estimates; in their order."""
    found = []
    for predicted, measured in pairs(records):
        theirs = predicted.observations.get("estimates")
        real = measured.memory.peak_allocated_bytes if measured.memory else None
        if not isinstance(theirs, Mapping) or not real:
            continue
        for method in METHODS:
            value, absent = _own(predicted) if method == "prediction" else _read(theirs.get(method))
            found.append(Estimate(method, predicted, measured, real, value, absent))
    return found


def without_estimates(records: Iterable[Record]) -> int:
    """How many cases were measured and predicted, but predicted without estimates."""
    return sum(not isinstance(one.observations.get("estimates"), Mapping) for one, _ in pairs(records))


def summarise(found: Sequence[Estimate]) -> list[MethodSummary]:
    """A line for each of :data:`METHODS`; median and largest are of absolute errors. ``found`` is of one device."""
    summaries = []
    for method in METHODS:
        mine = [one for one in found if one.method == method]
        errors = [one.error for one in mine if one.error is not None]
        sizes = [abs(error) for error in errors]
        summaries.append(
            MethodSummary(
                method,
                len(errors),
                len(mine) - len(errors),
                median(sizes) if sizes else None,
                max(sizes, default=None),
                min(errors, default=None),
                max(errors, default=None),
            )
        )
    return summaries


def reasons(found: Sequence[Estimate]) -> list[tuple[Method, str, int]]:
    """Why estimates are absent: the method, the reason, and of how many cases."""
    counted: dict[tuple[Method, str], int] = {}
    for one in found:
        if one.absent is not None:
            counted[one.method, one.absent] = counted.get((one.method, one.absent), 0) + 1
    return [(method, reason, count) for (method, reason), count in counted.items()]


def _own(predicted: Record) -> tuple[int | None, str | None]:
    peak = predicted.memory.peak_allocated_bytes if predicted.memory else None
    return peak, None if peak is not None else _NOT_TOLD


def _read(told: Any) -> tuple[int | None, str | None]:
    """Observations are not checked when a file is read: what is no estimate is absent."""
    if not isinstance(told, Mapping):
        return None, _NOT_TOLD
    peak = told.get("peak_bytes")
    if isinstance(peak, int) and not isinstance(peak, bool) and peak > 0:
        return peak, None
    return None, str(told.get("absent") or _NOT_TOLD)
