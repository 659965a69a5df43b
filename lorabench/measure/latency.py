"""From samples to a quoted time: median, its interval, and whether the samples can be trusted.

Runs in the parent, which has scipy; the worker only takes samples.
"""

from __future__ import annotations

from collections.abc import Sequence

from lorabench.record import Timing

CONFIDENCE = 0.95
RESAMPLES = 2000
DRIFT_ALPHA = 0.01
DRIFT_SHARE = 0.05
SPREAD_SHARE = 0.10
OUTLIER_SHARE = 0.10
"""A sample is far out beyond three interquartile ranges (Tukey's outer fence); this share of them is too many."""


def summarise(samples_s: Sequence[float], seed: int = 0) -> Timing:
    """The median of ``samples_s`` (seconds, in the order taken) with its 95% bootstrap interval.

    The interval is the percentile bootstrap of the median (Efron and Tibshirani, An Introduction to the Bootstrap,
    section 13.3): BCa's acceleration comes from the jackknife, which is inconsistent for the median.

    ``unstable`` says that one number does not describe the samples, ``reason`` says why:

    - ``drift``: they rise or fall with time (Mann-Kendall trend test at 1%), by over 5% from first to last third;
    - ``spread``: the interval is wider than 10% of the median;
    - ``outliers``: over 10% of the samples lie outside Tukey's outer fences.
    """
    import numpy as np
    from scipy import stats

    values = np.asarray(samples_s, dtype=float)
    if values.size == 0:
        raise ValueError("a timing needs at least one sample")
    median = float(np.median(values))
    if values.size == 1 or float(np.ptp(values)) == 0.0:
        return Timing(tuple(samples_s), median, (median, median), unstable=False)
    interval = stats.bootstrap(
        (values,),
        np.median,
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    # Interpolating between samples can round an end past the outermost of them.
    low, high = (float(end) for end in np.clip([interval.low, interval.high], values.min(), values.max()))

    reasons = []
    third = max(1, values.size // 3)
    change = float(np.median(values[-third:]) / np.median(values[:third]) - 1)
    trend = stats.kendalltau(np.arange(values.size), values)
    if trend.pvalue < DRIFT_ALPHA and abs(change) > DRIFT_SHARE:
        reasons.append(f"drift: {change:+.1%} from the first third of the samples to the last")
    if high - low > SPREAD_SHARE * median:
        reasons.append(f"spread: the interval spans {(high - low) / median:.1%} of the median")
    lower, upper = np.percentile(values, [25, 75])
    reach = 3 * (upper - lower)
    far_out = int(((values < lower - reach) | (values > upper + reach)).sum())
    if far_out > OUTLIER_SHARE * values.size:
        reasons.append(f"outliers: {far_out} of {values.size} samples are far from the rest")
    return Timing(tuple(samples_s), median, (low, high), bool(reasons), "; ".join(reasons) or None)
