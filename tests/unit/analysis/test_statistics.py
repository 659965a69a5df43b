"""Each statistic against a second way to it: a formula written out, an exact enumeration, or a published value."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lorabench.analysis.statistics import (
    ALPHA,
    holm,
    line,
    mean,
    mean_ratio,
    median_ratio,
    p_equivalent,
    p_greater,
    p_mean_below,
    p_mean_within,
)

FAST = (0.0101, 0.0102, 0.0104, 0.0107, 0.0111, 0.0116)
SLOW = (0.0151, 0.0153, 0.0154, 0.0159, 0.0163, 0.0171)


def test_median_ratio_is_of_medians_and_its_interval_that_of_a_bootstrap_written_out():
    found = median_ratio(SLOW, FAST)
    assert found.value == pytest.approx(((0.0154 + 0.0159) / 2) / ((0.0104 + 0.0107) / 2))
    assert found.n == 6
    generator = np.random.default_rng(7)
    ratios = [
        np.median(generator.choice(SLOW, len(SLOW))) / np.median(generator.choice(FAST, len(FAST)))
        for _ in range(20000)
    ]
    low, high = np.percentile(ratios, [2.5, 97.5])
    assert found.ci95 == pytest.approx((low, high), abs=0.01)


def test_median_ratio_repeats_and_covers_the_truth_about_as_often_as_it_says():
    assert median_ratio(SLOW, FAST) == median_ratio(SLOW, FAST)
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(60):
        over, under = (tuple(generator.lognormal(center, 0.1, 20)) for center in (math.log(1.5), 0.0))
        found = median_ratio(over, under)
        covered += found.low <= 1.5 <= found.high
    # 57 of 60 expected; fewer than 50 has a probability of 2e-4 at 95%.
    assert covered >= 50


def test_constant_or_single_samples_have_no_interval():
    assert median_ratio([2.0, 2.0], [1.0, 1.0]).ci95 == (2.0, 2.0)
    assert median_ratio([2.0], [1.0]).ci95 == (2.0, 2.0)
    assert mean_ratio([2.0], [1.0]).ci95 == pytest.approx((2.0, 2.0))
    assert mean([3.0]).ci95 == (3.0, 3.0)


def test_p_greater_is_the_share_of_arrangements_with_as_large_a_rank_sum():
    over, under = (5.0, 7.0, 8.0, 9.0), (1.0, 6.0, 2.0, 3.0)
    pooled = sorted(over + under)
    ranks = {value: rank for rank, value in enumerate(pooled)}
    seen = sum(ranks[value] for value in over)
    arrangements = list(combinations(range(len(pooled)), len(over)))
    exact = sum(sum(chosen) >= seen for chosen in arrangements) / len(arrangements)
    assert p_greater(over, under) == pytest.approx(exact)


def test_p_greater_than_a_ratio_scales_the_second_sample():
    assert p_greater(SLOW, FAST, 1.0) < 0.01
    assert p_greater(SLOW, FAST, 2.0) > 0.99
    assert p_greater(SLOW, FAST, 1.3) == p_greater(SLOW, [1.3 * value for value in FAST])


def test_p_equivalent_is_the_larger_of_two_welch_tests_written_out():
    generator = np.random.default_rng(3)
    over, under = generator.normal(1.000, 0.010, 20), generator.normal(1.002, 0.015, 25)
    first, second = np.log(over), np.log(under)
    parts = first.var(ddof=1) / 20, second.var(ddof=1) / 25
    error = math.sqrt(sum(parts))
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 19 + parts[1] ** 2 / 24)
    apart = first.mean() - second.mean()
    below = stats.t.sf((apart - math.log(0.98)) / error, freedom)
    above = stats.t.cdf((apart - math.log(1.02)) / error, freedom)
    assert p_equivalent(over, under, 0.02) == pytest.approx(max(below, above))
    assert p_equivalent(over, under, 0.02) < ALPHA


def test_p_equivalent_does_not_take_few_or_noisy_samples_for_equality():
    assert p_equivalent([1.0], [1.0], 0.02) == 1.0
    noisy = [0.8, 1.2, 1.1, 0.9]
    assert p_equivalent(noisy, list(reversed(noisy)), 0.02) > 0.3
    assert p_equivalent([1.1, 1.11, 1.1], [1.0, 1.01, 1.0], 0.02) > 0.99
    assert p_equivalent([1.0, 1.0], [1.0, 1.0], 0.02) == 0.0
    assert p_equivalent([1.03, 1.03], [1.0, 1.0], 0.02) == 1.0


def test_mean_ratio_is_of_geometric_means_with_welchs_interval():
    found = mean_ratio(SLOW, FAST)
    assert found.value == pytest.approx(stats.gmean(SLOW) / stats.gmean(FAST))
    first, second = np.log(SLOW), np.log(FAST)
    parts = first.var(ddof=1) / 6, second.var(ddof=1) / 6
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 5 + parts[1] ** 2 / 5)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(sum(parts))
    apart = first.mean() - second.mean()
    assert found.ci95 == pytest.approx((math.exp(apart - half), math.exp(apart + half)))


def test_line_is_that_of_the_normal_equations():
    x, y = np.array([1.0, 2.0, 4.0, 8.0]), np.array([3.1, 4.9, 9.2, 16.8])
    matrix = np.stack([np.ones(4), x], axis=1)
    intercept, slope = np.linalg.solve(matrix.T @ matrix, matrix.T @ y)
    residuals = y - matrix @ [intercept, slope]
    error = math.sqrt(residuals @ residuals / 2 / ((x - x.mean()) ** 2).sum())
    half = 4.302652729911275 * error  # Student's t, 2 degrees of freedom, 97.5%: any table
    found = line(x, y)
    assert (found.slope, found.intercept) == pytest.approx((slope, intercept))
    assert found.slope_ci95 == pytest.approx((slope - half, slope + half))
    assert found.r_squared == pytest.approx(1 - residuals @ residuals / ((y - y.mean()) ** 2).sum())
    assert found.largest_residual == pytest.approx(np.abs(residuals / y).max())
    assert found.n == 4


@given(
    slope=st.integers(-(10**7), 10**7),
    intercept=st.integers(0, 10**11),
    x=st.lists(st.integers(1, 256), min_size=3, max_size=9, unique=True),
)
def test_bytes_on_one_line_have_its_slope_and_no_interval(slope, intercept, x):
    found = line(x, [intercept + slope * at for at in x])
    assert (found.slope, found.slope_ci95, found.intercept) == (slope, (slope, slope), intercept)
    assert (found.r_squared, found.largest_residual, found.n) == (1, 0, len(x))


def test_one_byte_beside_the_line_is_seen():
    y = [10**10 + 26_624 * at for at in range(9)]
    y[4] += 1
    found = line(range(9), y)
    assert found.slope_ci95[0] < 26_624 < found.slope_ci95[1]
    assert found.largest_residual > 0


def test_a_line_needs_three_points():
    with pytest.raises(ValueError, match="three points"):
        line([1, 2], [1, 2])


def test_mean_has_students_interval():
    # Student 1908, The probable error of a mean, section IX: hours of sleep gained by ten patients.
    gained = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
    found = mean(gained)
    assert found.value == pytest.approx(1.58)
    assert found.ci95 == pytest.approx((0.7001142, 2.4598858), abs=1e-6)


def test_p_mean_below_is_students_test():
    # The same ten differences: t = 4.0621 on 9 degrees of freedom, p = 0.002833 on both sides (R's t.test of sleep).
    gained = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
    assert p_mean_below([-value for value in gained], 0) == pytest.approx(0.002833 / 2, abs=1e-6)
    assert p_mean_below(gained, 0) == pytest.approx(1 - 0.002833 / 2, abs=1e-6)
    assert p_mean_below([1.0], 2) == 1.0
    assert (p_mean_below([1.0, 1.0], 2), p_mean_below([1.0, 1.0], 1)) == (0.0, 1.0)


def test_p_mean_within_needs_both_sides():
    values = [0.001, -0.002, 0.0015, 0.0]
    assert p_mean_within(values, 0.01) == pytest.approx(
        max(p_mean_below(values, 0.01), p_mean_below([-value for value in values], 0.01))
    )
    assert p_mean_within(values, 0.01) < ALPHA
    assert p_mean_within([value + 0.02 for value in values], 0.01) > 0.99
    assert p_mean_within([value - 0.02 for value in values], 0.01) > 0.99


def test_holm_multiplies_the_smallest_by_all_and_never_falls():
    # Holm 1979's procedure by hand: 0.01 x 4, 0.02 x 3, 0.03 x 2, 0.04 x 1, each at least the one before.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []
