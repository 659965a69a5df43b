"""The few statistics that verdicts rest on, all of them scipy's and statsmodels'; here is only which, and why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from scipy import stats

ALPHA = 0.05
CONFIDENCE = 1 - ALPHA
TRIMMED = 0.2
"""The share of pairs that is left out at each end, rounded down to whole pairs: none of four, one of eight."""


@dataclass(frozen=True)
class Estimate:
    """A value, the ends of its 95% interval, and the number of samples behind it."""

    value: float
    low: float
    high: float
    n: int

    @property
    def ci95(self) -> tuple[float, float]:
        return self.low, self.high


@dataclass(frozen=True)
class Line:
    """``y = intercept + slope * x`` by least squares, the slope's 95% interval, and how well it fits.

    ``r_squared`` is the share of the variance that the line explains; ``largest_residual`` the largest distance of a
    point from it, as a share of that point's value.
    """

    slope: float
    slope_ci95: tuple[float, float]
    intercept: float
    r_squared: float
    largest_residual: float
    n: int


def paired_ratio(over: Sequence[float], under: Sequence[float]) -> Estimate:
    """``over`` by ``under``, two samples that were taken in pairs: trimmed geometric mean of the pairs' ratios.

    The lowest and the highest are left out (:data:`TRIMMED`): on a machine that others share some pair meets a pause.
    The interval is Student's of a trimmed mean of the logarithms (Tukey and McLaughlin 1963; Wilcox, Introduction to
    Robust Estimation and Hypothesis Testing, section 4.3.2). ``n`` counts the pairs.

    Raises:
        ValueError: samples of different lengths, or fewer than two pairs, which have no spread to tell.
    """
    trimmed = _log_ratios(over, under)
    center, half = float(trimmed.mean_trimmed), 0.0
    if trimmed.std_mean_trimmed > 0:
        quantile = stats.t.ppf((1 + CONFIDENCE) / 2, trimmed.nobs_reduced - 1)
        half = float(quantile * trimmed.std_mean_trimmed)
    low, value, high = (float(np.exp(center + shift)) for shift in (-half, 0.0, half))
    return Estimate(value, low, high, len(over))


def p_greater(over: Sequence[float], under: Sequence[float], ratio: float = 1.0) -> float:
    """p value of "``over`` is more than ``ratio`` times ``under``", pair by pair: the one-sided test that belongs to
    :func:`paired_ratio`. Raises as that does."""
    return _p_larger(_log_ratios(over, under), math.log(ratio))


def p_equivalent(over: Sequence[float], under: Sequence[float], margin: float) -> float:
    """p value of "the two differ by less than ``margin``" (0.02 for 2%), pair by pair: two one-sided tests.

    Schuirmann 1987, A comparison of the two one-sided tests procedure. Raises as :func:`paired_ratio` does.
    """
    above = _p_larger(_log_ratios(over, under), math.log(1 - margin))
    below = _p_larger(_log_ratios(under, over), -math.log(1 + margin))
    return max(above, below)


def _log_ratios(over: Sequence[float], under: Sequence[float]) -> Any:
    from statsmodels.stats.robust_compare import TrimmedMean

    if len(over) != len(under) or len(over) < 2:
        raise ValueError(f"{len(over)} and {len(under)} samples are no pairs, or too few to compare")
    return TrimmedMean(np.log(np.asarray(over)) - np.log(np.asarray(under)), TRIMMED)


def _p_larger(trimmed: Any, value: float) -> float:
    if trimmed.std_mean_trimmed == 0:
        return 0.0 if trimmed.mean_trimmed > value else 1.0
    return float(trimmed.ttest_mean(value, alternative="larger")[1])


def line(x: Sequence[float], y: Sequence[float]) -> Line:
    """Ordinary least squares of ``y`` on ``x``; three points at least, or there are no residuals to speak of.

    Raises:
        ValueError: fewer than three points.
    """
    if len(x) < 3:
        raise ValueError("a line through fewer than three points proves nothing")
    fit = stats.linregress(x, y)
    exact = _exact_slope(x, y)
    if exact is not None:
        return Line(float(exact), (float(exact),) * 2, float(Fraction(y[0]) - exact * Fraction(x[0])), 1.0, 0.0, len(x))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(x) - 2) * fit.stderr)
    slope, intercept = float(fit.slope), float(fit.intercept)
    residuals = np.abs(np.asarray(y) - (intercept + slope * np.asarray(x))) / np.abs(np.asarray(y))
    return Line(
        slope=slope,
        slope_ci95=(slope - half, slope + half),
        intercept=intercept,
        r_squared=float(fit.rvalue**2),
        largest_residual=float(residuals.max()),
        n=len(x),
    )


def _exact_slope(x: Sequence[float], y: Sequence[float]) -> Fraction | None:
    """The slope of whole numbers, of bytes, that lie on one line: least squares would round, and give an interval."""
    if not all(isinstance(value, int) for value in (*x, *y)):
        return None
    least, most = x.index(min(x)), x.index(max(x))
    slope = Fraction(int(y[most] - y[least]), int(x[most] - x[least]))
    on_it = all(one - y[least] == slope * int(at - x[least]) for at, one in zip(x, y, strict=True))
    return slope if on_it else None


def mean(values: Sequence[float]) -> Estimate:
    """Mean with Student's 95% interval; of one value, the value itself."""
    array = np.asarray(values, dtype=float)
    value, n = float(array.mean()), len(array)
    if n < 2 or np.ptp(array) == 0:
        return Estimate(value, value, value, n)
    interval = stats.ttest_1samp(array, 0).confidence_interval(CONFIDENCE)
    return Estimate(value, float(interval.low), float(interval.high), n)


def p_mean_below(values: Sequence[float], limit: float) -> float:
    """p value of "the mean is below ``limit``": Student's test, one-sided. 1 for fewer than two values."""
    array = np.asarray(values, dtype=float)
    if len(array) < 2:
        return 1.0
    if np.ptp(array) == 0:
        return 0.0 if array[0] < limit else 1.0
    return float(stats.ttest_1samp(array, limit, alternative="less").pvalue)


def p_mean_within(values: Sequence[float], margin: float) -> float:
    """p value of "the mean is within ``margin`` of 0": two one-sided tests (Schuirmann 1987)."""
    return max(p_mean_below(values, margin), p_mean_below([-value for value in values], margin))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (Holm 1979): what may be compared with :data:`ALPHA` however many tests there are."""
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(list(p_values), method="holm")[1]] if p_values else []
