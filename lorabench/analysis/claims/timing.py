"""Times that were taken in turn, lined up round by round, and how a ratio of them stands to a limit.

A round has a turn of every arm. What the machine does to one round it does to all of its arms, more or less, and so
arms are compared within rounds, and rounds are what is counted: steps of one turn are no samples of their own.
Where they were counted as such, means of merged and base models that run the same operators came out as different for
certain in 4 of 20 comparisons of a CPU, and medians in 3; at a risk of 5%, one is to be expected.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from lorabench.analysis.claims.evidence import Evidence, Where, observed, samples, setting
from lorabench.analysis.statistics import Estimate, p_greater, paired_ratio
from lorabench.record import Record

Standing = Literal["below", "above", "between"]

MIN_ROUNDS = 3
"""Fewer tell next to nothing: of two, Student's interval is thirteen times as wide as their distance."""
_TURN_STEPS = 4
"""Timed steps of a turn in records that do not say: they are from before ``observations.turn_steps``."""


@dataclass(frozen=True)
class Timed:
    """One case with its time of one phase in each round, those of all repeats together, seconds."""

    record: Record
    rounds_s: tuple[float, ...]


@dataclass(frozen=True)
class Comparison:
    """A ratio beside a limit: ``between`` where the interval holds the limit. ``p_value`` is that of the side on which
    the ratio stands."""

    ratio: Estimate
    standing: Standing
    p_value: float


def in_rounds(records: Sequence[Record], phase: str) -> list[Timed]:
    """Those of ``records``, the arms of one process, that timed ``phase``, with the rounds that all of them have.

    A round is left out where a time in it is none (zero, or not finite).
    """
    timed = [record for record in records if samples(record, phase)]
    if len({observed(record, "timing_stages_s.timing") for record in timed}) > 1:
        # One of them was run again, in another process: they share no rounds.
        return []
    rounds = [
        times
        for times in zip(*(_turns_s(record, phase) for record in timed), strict=False)
        if all(math.isfinite(seconds) and seconds > 0 for seconds in times)
    ]
    return [Timed(record, tuple(times[arm] for times in rounds)) for arm, record in enumerate(timed)]


def _turns_s(record: Record, phase: str) -> list[float]:
    """The median of each turn's samples."""
    seconds, turn_steps = samples(record, phase), observed(record, "turn_steps")
    length = turn_steps if isinstance(turn_steps, int) and turn_steps > 0 else _TURN_STEPS
    return [median(seconds[start : start + length]) for start in range(0, len(seconds), length)]


def timed_in_turn(
    evidence: Evidence,
    axis: str,
    where: Where | None = None,
    phase: str = "step",
    *,
    ignoring: Sequence[str] = (),
) -> list[list[Timed]]:
    """As :meth:`Evidence.series`, of records that were timed in turn, with the rounds of repeats and seeds pooled.

    What has fewer than :data:`MIN_ROUNDS` is left out.
    """
    pooled: dict[tuple[str, ...], dict[str, Timed]] = {}
    for records in evidence.series(axis, where, ignoring=ignoring, in_turn=True):
        timed = in_rounds(records, phase)
        known = pooled.setdefault(tuple(one.record.key for one in timed), {})
        for one in timed:
            before = known[one.record.key].rounds_s if one.record.key in known else ()
            known[one.record.key] = Timed(one.record, before + one.rounds_s)
    found = [list(cases.values()) for cases in pooled.values()]
    return [timed for timed in found if len(timed) > 1 and len(timed[0].rounds_s) >= MIN_ROUNDS]


def compare(over: Sequence[float], under: Sequence[float], limit: float) -> Comparison:
    """``over`` by ``under``, round by round, beside ``limit``."""
    ratio = paired_ratio(over, under)
    if ratio.high < limit:
        return Comparison(ratio, "below", p_greater(under, over, 1 / limit))
    if ratio.low > limit:
        return Comparison(ratio, "above", p_greater(over, under, limit))
    return Comparison(ratio, "between", 1.0)


def by_value(timed: Sequence[Timed], axis: str) -> list[tuple[Any, Timed]]:
    """The cases with their value of ``axis``."""
    return [(setting(one.record, axis), one) for one in timed]


def busy_ratio(over: Record, under: Record, phase: str = "step") -> float | None:
    """How long the GPU had work in ``over`` by how long in ``under``: a ratio of times without the host's part.

    One profiled pass of each; None without a GPU, and where another process had it, too: kernels of two processes
    take turns, and each then lasts as long as both.
    """
    if over.shared_gpu or under.shared_gpu:
        return None
    over_s, under_s = (_gpu_busy_s(one, phase) for one in (over, under))
    return over_s / under_s if over_s and under_s else None


def _gpu_busy_s(record: Record, phase: str) -> float | None:
    """Seconds in which the GPU had work. Older records have their share of the median alone, cut where it is 1."""
    known = observed(record, f"launch_bound.{phase}.gpu_busy_s")
    if isinstance(known, float):
        return known
    share = observed(record, f"launch_bound.{phase}.gpu_busy_share")
    timing = record.latency.get(phase)
    return share * timing.median_s if isinstance(share, float) and share < 1 and timing is not None else None
