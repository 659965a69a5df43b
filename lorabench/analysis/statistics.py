"""The few statistics that verdicts rest on, all of them scipy's and statsmodels'; here is only which, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from scipy import stats

ALPHA = 0.05
CONFIDENCE = 1 - ALPHA
RESAMPLES = 5000


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


def median_ratio(over: Sequence[float], under: Sequence[float], seed: int = 0) -> Estimate:
    """Median of ``over`` by median of ``under``, with the percentile bootstrap's interval.

    Efron and Tibshirani, An Introduction to the Bootstrap, section 13.3; both samples are resampled. The percentile
    bootstrap, because BCa's acceleration comes from the jackknife, which is inconsistent for the median.
    """

    def ratio(first: Any, second: Any, axis: int = -1) -> Any:
        return np.median(first, axis=axis) / np.median(second, axis=axis)

    value = float(ratio(np.asarray(over), np.asarray(under)))
    n = min(len(over), len(under))
    if n < 2 or (np.ptp(over) == 0 and np.ptp(under) == 0):
        return Estimate(value, value, value, n)
    interval = stats.bootstrap(
        (over, under),
        ratio,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(value, float(interval.low), float(interval.high), n)


def p_greater(over: Sequence[float], under: Sequence[float], ratio: float = 1.0) -> float:
    """p value of "``over`` is more than ``ratio`` times ``under``": Mann and Whitney's test, one-sided.

    On ranks, because step times have a long upper tail.
    """
    return float(stats.mannwhitneyu(over, np.asarray(under) * ratio, alternative="greater").pvalue)


def p_equivalent(over: Sequence[float], under: Sequence[float], margin: float) -> float:
    """p value of "the two differ by less than ``margin``" (0.02 for 2%): two one-sided t tests on the logarithms.

    Schuirmann 1987, A comparison of the two one-sided tests procedure; unequal variances (Welch). 1 for fewer than two
    samples: they show nothing.
    """
    from statsmodels.stats.weightstats import ttost_ind

    if min(len(over), len(under)) < 2:
        return 1.0
    first, second = np.log(np.asarray(over)), np.log(np.asarray(under))
    if np.ptp(first) == 0 and np.ptp(second) == 0:
        return 0.0 if abs(np.expm1(first[0] - second[0])) < margin else 1.0
    return float(ttost_ind(first, second, np.log(1 - margin), np.log(1 + margin), usevar="unequal")[0])


def mean_ratio(over: Sequence[float], under: Sequence[float]) -> Estimate:
    """Geometric mean of ``over`` by that of ``under``, with Welch's 95% interval: what :func:`p_equivalent` tests."""
    first, second = np.log(np.asarray(over)), np.log(np.asarray(under))
    value, n = float(np.exp(first.mean() - second.mean())), min(len(over), len(under))
    if n < 2 or (np.ptp(first) == 0 and np.ptp(second) == 0):
        return Estimate(value, value, value, n)
    interval = stats.ttest_ind(first, second, equal_var=False).confidence_interval(CONFIDENCE)
    return Estimate(value, float(np.exp(interval.low)), float(np.exp(interval.high)), n)


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
