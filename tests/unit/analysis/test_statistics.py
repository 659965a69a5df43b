"""Each statistic against a second way to it: a formula written out, an exact enumeration, or a published value."""

from __future__ import annotations

import math

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
    p_equivalent,
    p_greater,
    p_mean_below,
    p_mean_within,
    paired_ratio,
)

FAST = (0.0101, 0.0102, 0.0104, 0.0107, 0.0111, 0.0116)
SLOW = (0.0151, 0.0153, 0.0154, 0.0159, 0.0163, 0.0171)


def trimmed_by_hand(values, cut):
    """Mean, standard error and degrees of freedom of a trimmed mean, as Wilcox writes them (section 4.3.2)."""
    ordered = sorted(values)
    n, left = len(ordered), len(ordered) - 2 * cut
    winsorized = [ordered[cut]] * cut + ordered[cut : n - cut] + [ordered[n - cut - 1]] * cut
    share_left = left / n
    return np.mean(ordered[cut : n - cut]), np.std(winsorized, ddof=1) / (share_left * math.sqrt(n)), left - 1


def test_paired_ratio_is_of_pairs_without_the_outermost_and_its_interval_students():
    found = paired_ratio(SLOW, FAST)
    ratios = [math.log(over / under) for over, under in zip(SLOW, FAST, strict=True)]
    center, error, freedom = trimmed_by_hand(ratios, 1)
    half = stats.t.ppf(0.975, freedom) * error
    assert found.value == pytest.approx(math.exp(center))
    assert found.ci95 == pytest.approx((math.exp(center - half), math.exp(center + half)))
    assert found.n == 6


def test_few_pairs_are_not_trimmed():
    found = paired_ratio(SLOW[:4], FAST[:4])
    ratios = np.log(SLOW[:4]) - np.log(FAST[:4])
    half = 3.182446305284263 * ratios.std(ddof=1) / 2  # Student's t, 3 degrees of freedom, 97.5%: any table
    assert found.ci95 == pytest.approx((math.exp(ratios.mean() - half), math.exp(ratios.mean() + half)))


def test_one_pause_of_the_machine_hardly_moves_a_paired_ratio():
    steady = paired_ratio([1.5, 1.51, 1.49, 1.5, 1.52], [1.0] * 5)
    paused = paired_ratio([1.5, 1.51, 1.49, 1.5, 15.2], [1.0] * 5)
    assert paused.value == pytest.approx(steady.value, rel=0.01)
    assert paused.low > 1.4


def shared_machine(generator, turns, turn_steps):
    """Seconds of steps on a machine that is slow for a while and quick again; an untimed step goes before each turn."""
    slow, seconds = generator.random() < 0.3, []
    for _ in range(turns):
        turn = []
        for _ in range(1 + turn_steps):
            slow = (not slow) if generator.random() < (1 / 5 if slow else 1 / 8) else slow
            turn.append(math.exp(0.45 * slow + generator.normal(0, 0.03)))
        seconds.append(turn[1:])
    return seconds


@pytest.mark.parametrize(("rounds", "turn_steps"), [(20, 1), (8, 4)])
def test_intervals_cover_the_truth_where_a_machine_is_slow_for_a_while(rounds, turn_steps):
    generator = np.random.default_rng(1)
    pairs, missed, counted_as_steps = 200, 0, 0
    for _ in range(pairs):
        turns = shared_machine(generator, 2 * rounds, turn_steps)
        over, under = turns[::2], turns[1::2]
        found = paired_ratio([float(np.median(turn)) for turn in over], [float(np.median(turn)) for turn in under])
        missed += not found.low <= 1 <= found.high
        apart = stats.ttest_ind(np.log(np.ravel(over)), np.log(np.ravel(under)), equal_var=False)
        counted_as_steps += apart.pvalue < ALPHA
    # 10 of 200 are to be expected at 95%; over 20 has a probability of 1e-3.
    assert missed <= 20
    if turn_steps > 1:
        # What the rounds are for: steps of one turn, counted each for itself, find differences where there are none.
        assert counted_as_steps > 20


def test_what_is_constant_has_no_interval_and_one_pair_no_ratio():
    assert paired_ratio([2.0, 2.0], [1.0, 1.0]).ci95 == (2.0, 2.0)
    assert mean([3.0]).ci95 == (3.0, 3.0)
    for test in (paired_ratio, p_greater, lambda over, under: p_equivalent(over, under, 0.02)):
        with pytest.raises(ValueError, match="no pairs"):
            test([2.0], [1.0])
        with pytest.raises(ValueError, match="no pairs"):
            test([2.0, 2.0, 2.0], [1.0, 1.0])


def test_p_greater_is_the_one_sided_test_of_the_trimmed_mean():
    ratios = np.log(SLOW) - np.log(FAST)
    center, error, freedom = trimmed_by_hand(ratios, 1)
    for ratio in (1.0, 1.4, 1.5, 2.0):
        expected = stats.t.sf((center - math.log(ratio)) / error, freedom)
        assert p_greater(SLOW, FAST, ratio) == pytest.approx(expected)
    assert p_greater([2.0, 2.0], [1.0, 1.0], 1.9) == 0.0
    assert p_greater([2.0, 2.0], [1.0, 1.0], 2.0) == 1.0


@given(st.lists(st.tuples(st.floats(0.5, 2.0), st.floats(0.5, 2.0)), min_size=3, max_size=20))
def test_interval_and_test_say_the_same(pairs):
    over, under = zip(*pairs, strict=True)
    found = paired_ratio(over, under)
    assert found.low <= found.value <= found.high
    if found.low > 1 + 1e-9:
        assert p_greater(over, under) <= 0.0251
    if found.low < 1 - 1e-9:
        assert p_greater(over, under) >= 0.0249


def test_p_equivalent_is_the_larger_of_two_one_sided_tests():
    generator = np.random.default_rng(3)
    over, under = generator.normal(1.000, 0.010, 20), generator.normal(1.002, 0.015, 20)
    center, error, freedom = trimmed_by_hand(np.log(over) - np.log(under), 4)
    below = stats.t.sf((center - math.log(0.98)) / error, freedom)
    above = stats.t.cdf((center - math.log(1.02)) / error, freedom)
    assert p_equivalent(over, under, 0.02) == pytest.approx(max(below, above))
    assert p_equivalent(over, under, 0.02) < ALPHA


def test_p_equivalent_does_not_take_few_or_noisy_samples_for_equality():
    noisy = [0.8, 1.2, 1.1, 0.9]
    assert p_equivalent(noisy, list(reversed(noisy)), 0.02) > 0.3
    assert p_equivalent([1.1, 1.11, 1.1], [1.0, 1.01, 1.0], 0.02) > 0.99
    assert p_equivalent([1.0, 1.0], [1.0, 1.0], 0.02) == 0.0
    assert p_equivalent([1.03, 1.03], [1.0, 1.0], 0.02) == 1.0


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
