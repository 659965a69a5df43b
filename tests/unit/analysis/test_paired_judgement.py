"""One comparison: intervals and verdicts against scipy and statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from lorabench.analysis.paired.judgement import Rules, Summary, conclude, is_within, pairs_needed, summarise

RULES = Rules(alpha=0.01, floor=0.03, pairs=24)


def log_times(n: int, ratio: float, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    base = np.log(0.02) + generator.normal(0, spread, n)
    return base, base + np.log(ratio) + generator.normal(0, spread, n)


def test_the_interval_is_that_of_the_paired_t_test():
    base, head = log_times(12, 1.05, 0.02)
    expected = stats.ttest_rel(head, base).confidence_interval(0.99)
    assert summarise(head - base).interval(0.01) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("ratio", [1.0, 1.01, 1.02, 1.03, 1.06])
@pytest.mark.parametrize("spread", [0.005, 0.02])
def test_equivalence_is_two_one_sided_tests(ratio, spread):
    base, head = log_times(16, ratio, spread)
    level = 0.01
    p = ttost_paired(head, base, -RULES.log_floor, RULES.log_floor)[0]
    assert is_within(summarise(head - base).interval(level), RULES.log_floor) == (p < level / 2)


def test_figures_are_ratios():
    judgement = conclude(Summary(np.log(1.10), 0.02, 16), "slower", True, 0.01, RULES)
    assert judgement.ratio == pytest.approx(1.10)
    half = stats.t.isf(0.005, 15) * 0.02 / 4
    assert (judgement.low, judgement.high) == pytest.approx((1.10 * np.exp(-half), 1.10 * np.exp(half)))
    assert judgement.pairs_needed is None


def test_the_smallest_effect_would_have_shown_four_times_in_five():
    n, spread, level = 16, 0.04, 0.01
    effect = np.log1p(conclude(Summary(0.0, spread, n), "inconclusive", False, level, RULES).smallest_effect)
    # Power of the t test by the noncentral t distribution.
    power = stats.nct.sf(stats.t.isf(level / 2, n - 1), n - 1, effect / (spread / np.sqrt(n)))
    assert power == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize("mean", [0.0, 0.01, 0.02, 0.05])
def test_so_many_pairs_would_settle_it(mean):
    spread, level = 0.04, 0.003
    n = pairs_needed(Summary(mean, spread, 8), level, RULES)
    distance = max(mean, RULES.log_floor - mean)

    def power(pairs: int) -> float:
        return float(stats.nct.sf(stats.t.isf(level / 2, pairs - 1), pairs - 1, distance / (spread / np.sqrt(pairs))))

    assert power(n) == pytest.approx(0.8, abs=0.05)
    assert power(n - 2) < power(n)


def test_more_pairs_than_anybody_has_are_not_named():
    assert pairs_needed(Summary(0.0, 40.0, 8), 0.01, RULES) is None


@settings(deadline=None)
@given(st.lists(st.floats(-0.5, 0.5), min_size=2, max_size=30), st.floats(1e-6, 0.2))
def test_swapping_base_and_head_mirrors_the_interval(log_ratios, level):
    low, high = summarise(log_ratios).interval(level)
    assert summarise([-value for value in log_ratios]).interval(level) == pytest.approx((-high, -low), abs=1e-12)
    assert low <= np.mean(log_ratios) + 1e-12
    assert high >= np.mean(log_ratios) - 1e-12
