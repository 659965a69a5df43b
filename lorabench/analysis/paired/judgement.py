"""What one comparison's pairs say: an interval for the ratio of head to base, and the verdict that it allows.

A pair gives one number, the logarithm of head's statistic by base's. Their mean is judged with Student's t, because the
spread comes from the same few pairs; at each look its quantile is taken at the nominal level of the normal boundary
(Jennison and Turnbull 2000, section 3.8, who show that the error rate hardly moves; tests simulate it). The interval
is theirs, too: a repeated confidence interval (Jennison and Turnbull 1989, J. R. Statist. Soc. B 51), which holds
at all looks together, so that every verdict may be read off it at any look:

- ``equivalent``: all of it lies within the floor, 1/(1+floor) to 1+floor (two one-sided tests: Schuirmann 1987). A
  slow-down that is certain and certainly below the floor is one, too: the floor says what matters.
- ``slower``, ``faster``: it lies on one side of 1, and not within the floor.
- ``inconclusive``: neither.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Verdict = Literal["slower", "faster", "equivalent", "inconclusive"]

MIN_PAIRS = 4
"""Fewer are not looked at: three degrees of freedom are few enough."""
POWER = 0.8
_MOST_PAIRS = 100_000


@dataclass(frozen=True)
class Rules:
    """``alpha``: of a false alarm in the whole family, both directions; ``floor``: a share that does not matter;
    ``pairs``: the most that are taken of a comparison."""

    alpha: float = 0.01
    floor: float = 0.03
    pairs: int = 24

    @property
    def log_floor(self) -> float:
        return float(np.log1p(self.floor))


@dataclass(frozen=True)
class Judgement:
    """``ratio`` is head by base, with its interval; ``smallest_effect`` the slow-down, as a share, that these pairs
    would have shown four times in five; ``pairs_needed`` the pairs after which the comparison would be settled as
    often, if spread and ratio are what they seem (None if it is settled, or beyond 100,000)."""

    verdict: Verdict
    settled: bool
    pairs: int
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    smallest_effect: float | None = None
    pairs_needed: int | None = None


NOTHING_YET = Judgement("inconclusive", settled=False, pairs=0)


@dataclass(frozen=True)
class Summary:
    """Mean and spread of a comparison's log-ratios."""

    mean: float
    spread: float
    n: int

    def half_width(self, level: float) -> float:
        """Of the two-sided interval for the mean at ``level``."""
        if self.spread == 0.0:
            return 0.0
        return _upper_t(level / 2, self.n) * self.spread / math.sqrt(self.n)

    def interval(self, level: float) -> tuple[float, float]:
        half = self.half_width(level)
        return self.mean - half, self.mean + half


def summarise(log_ratios: Sequence[float]) -> Summary:
    values = np.asarray(log_ratios, dtype=float)
    return Summary(float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else 0.0, len(values))


def direction(interval: tuple[float, float]) -> Verdict:
    """On which side of 0 an interval lies."""
    low, high = interval
    return "slower" if low > 0 else "faster" if high < 0 else "inconclusive"


def is_within(interval: tuple[float, float], log_floor: float) -> bool:
    return -log_floor < interval[0] and interval[1] < log_floor


def conclude(summary: Summary, verdict: Verdict, settled: bool, level: float, rules: Rules) -> Judgement:
    """The judgement with its figures, at the nominal ``level`` at which it was made."""
    low, high = summary.interval(level)
    reach = summary.half_width(level)
    if summary.spread > 0.0:
        reach += _upper_t(1 - POWER, summary.n) * summary.spread / math.sqrt(summary.n)
    return Judgement(
        verdict,
        settled,
        summary.n,
        ratio=float(np.exp(summary.mean)),
        low=float(np.exp(low)),
        high=float(np.exp(high)),
        smallest_effect=float(np.expm1(reach)),
        pairs_needed=pairs_needed(summary, level, rules) if verdict == "inconclusive" else None,
    )


def pairs_needed(summary: Summary, level: float, rules: Rules) -> int | None:
    """The fewest pairs that show, with power 0.8 at ``level``, whichever is easier to show of a mean as it is seen:
    that it is not 0, or that it lies within the floor. The t distribution of that many pairs; None beyond 100,000."""
    distance = max(abs(summary.mean), rules.log_floor - abs(summary.mean))

    def reach(n: int) -> float:
        return (_upper_t(level / 2, n) + _upper_t(1 - POWER, n)) * summary.spread / math.sqrt(n)

    if reach(_MOST_PAIRS) > distance:
        return None
    low, high = MIN_PAIRS, _MOST_PAIRS
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reach(middle) <= distance else (middle + 1, high)
    return low


def _upper_t(probability: float, n: int) -> float:
    """What Student's t with ``n - 1`` degrees of freedom exceeds with ``probability``.

    The bare function: scipy.stats takes a hundred times as long, and simulations ask for millions.
    """
    from scipy import special

    return -float(special.stdtrit(n - 1, probability))
