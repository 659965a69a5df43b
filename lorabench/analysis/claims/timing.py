"""Times that were taken in turn, lined up, and how a ratio of them stands to a limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lorabench.analysis.claims.evidence import Evidence, Where, samples, setting
from lorabench.analysis.statistics import Estimate, median_ratio, p_greater
from lorabench.record import Record

Standing = Literal["below", "above", "between"]


@dataclass(frozen=True)
class Timed:
    """One case with its samples of one phase, those of all repeats together, seconds."""

    record: Record
    samples_s: tuple[float, ...]


@dataclass(frozen=True)
class Comparison:
    """A ratio of medians beside a limit: ``between`` where the interval holds the limit. ``p_value`` is that of the
    side on which the ratio stands."""

    ratio: Estimate
    standing: Standing
    p_value: float


def timed_in_turn(
    evidence: Evidence,
    axis: str,
    where: Where | None = None,
    phase: str = "step",
    *,
    ignoring: Sequence[str] = (),
) -> list[list[Timed]]:
    """As :meth:`Evidence.series`, of records that were timed in turn, with the samples of repeats and seeds pooled."""
    pooled: dict[tuple[str, ...], dict[str, Timed]] = {}
    for records in evidence.series(axis, where, ignoring=ignoring, in_turn=True):
        timed = [record for record in records if samples(record, phase) and min(samples(record, phase)) > 0]
        known = pooled.setdefault(tuple(record.key for record in timed), {})
        for record in timed:
            before = known[record.key].samples_s if record.key in known else ()
            known[record.key] = Timed(record, before + samples(record, phase))
    return [list(cases.values()) for cases in pooled.values() if len(cases) > 1]


def compare(over: Sequence[float], under: Sequence[float], limit: float) -> Comparison:
    """The median of ``over`` by that of ``under`` beside ``limit``."""
    ratio = median_ratio(over, under)
    if ratio.high < limit:
        return Comparison(ratio, "below", p_greater(under, over, 1 / limit))
    if ratio.low > limit:
        return Comparison(ratio, "above", p_greater(over, under, limit))
    return Comparison(ratio, "between", 1.0)


def by_value(timed: Sequence[Timed], axis: str) -> list[tuple[Any, Timed]]:
    """The cases with their value of ``axis``."""
    return [(setting(one.record, axis), one) for one in timed]
