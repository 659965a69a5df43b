from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lorabench.measure.latency import summarise


def test_the_median_is_the_middle_of_the_samples_and_the_samples_keep_their_order() -> None:
    timing = summarise([0.3, 0.1, 0.2, 0.5, 0.4])
    assert timing.median_s == 0.3
    assert timing.samples_s == (0.3, 0.1, 0.2, 0.5, 0.4)


def test_one_sample_has_an_interval_of_no_width_and_no_samples_are_refused() -> None:
    assert summarise([0.25]).ci95_s == (0.25, 0.25)
    with pytest.raises(ValueError, match="at least one"):
        summarise([])


def test_the_interval_covers_the_true_median_as_often_as_it_says() -> None:
    # Coverage of the percentile bootstrap of a median at n = 20 lies near its nominal 95%.
    generator = np.random.default_rng(7)
    trials = 300
    covered = 0
    for _ in range(trials):
        low, high = summarise(generator.lognormal(mean=0.0, sigma=0.2, size=20).tolist()).ci95_s
        covered += low <= 1.0 <= high
    # Three standard errors of a binomial proportion around 0.95, and the bootstrap's known slight anti-conservatism.
    assert 0.90 <= covered / trials <= 0.99


def test_a_steady_series_is_stable() -> None:
    generator = np.random.default_rng(1)
    timing = summarise((0.1 + 0.001 * generator.standard_normal(30)).tolist())
    assert not timing.unstable
    assert timing.reason is None


def test_a_rising_series_drifts() -> None:
    timing = summarise([0.1 * (1 + 0.01 * step) for step in range(30)])
    assert timing.unstable
    assert timing.reason is not None
    assert timing.reason.startswith("drift: +")


def test_a_wide_series_is_flagged_for_its_spread() -> None:
    generator = np.random.default_rng(3)
    timing = summarise(generator.uniform(0.05, 0.15, size=20).tolist())
    assert timing.reason is not None
    assert "spread" in timing.reason


def test_many_far_samples_are_flagged_and_one_is_not() -> None:
    generator = np.random.default_rng(4)
    steady = (0.1 + 0.0005 * generator.standard_normal(30)).tolist()
    # Spread out over the run, so that they are no trend.
    with_one, with_five = list(steady), list(steady)
    with_one[14] = 0.3
    for index in (2, 9, 15, 21, 27):
        with_five[index] = 0.3
    assert summarise(with_one).reason is None
    assert "outliers: 5 of 30" in (summarise(with_five).reason or "")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=40))
@example([221.0, 220.04639677507564])
def test_the_interval_is_finite_and_inside_the_samples(samples: list[float]) -> None:
    timing = summarise(samples)
    low, high = timing.ci95_s
    assert min(samples) <= low <= high <= max(samples)
    assert math.isfinite(timing.median_s)
    assert min(samples) <= timing.median_s <= max(samples)
