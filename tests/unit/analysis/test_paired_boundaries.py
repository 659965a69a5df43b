"""Alpha spending against published boundaries and a second way to compute them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lorabench.analysis.paired.boundaries import levels_of, nominal_levels, pocock_spending

FIVE_LOOKS = (1.0, 2.0, 3.0, 4.0, 5.0)


def z_values(levels: tuple[float, ...]) -> list[float]:
    return [float(stats.norm.isf(level / 2)) for level in levels]


def test_pocock_boundaries_are_those_published():
    # Reboussin, DeMets, Kim and Lan 2000, Controlled Clinical Trials 21: five looks, two-sided 0.05.
    spent = tuple(pocock_spending(look / 5, 0.05) for look in range(1, 6))
    assert z_values(nominal_levels(FIVE_LOOKS, spent)) == pytest.approx([2.438, 2.427, 2.410, 2.397, 2.386], abs=1e-3)


def test_obrien_fleming_boundaries_are_those_published():
    # The same source; Lan and DeMets' alpha-1* of 0.025 on each side.
    one_side = [2 * stats.norm.sf(stats.norm.isf(0.0125) / np.sqrt(look / 5)) for look in range(1, 6)]
    spent = tuple(float(2 * side) for side in one_side)
    assert z_values(nominal_levels(FIVE_LOOKS, spent)) == pytest.approx([4.877, 3.357, 2.680, 2.290, 2.031], abs=1e-3)


@pytest.mark.parametrize("looks", [[4, 8, 24], [4, 12, 16], [8, 9, 24]])
def test_looks_spend_what_is_free_by_a_second_implementation(looks):
    levels = levels_of(looks, 24, 0.05, final=False)
    covariance = [[min(a, b) / np.sqrt(a * b) for b in looks] for a in looks]
    z = np.array(z_values(levels))
    for count in range(1, len(looks) + 1):
        normal = stats.multivariate_normal(np.zeros(count), np.array(covariance)[:count, :count], abseps=1e-8)
        inside = normal.cdf(z[:count], lower_limit=-z[:count], rng=np.random.default_rng(0))
        assert 1 - inside == pytest.approx(pocock_spending(looks[count - 1] / 24, 0.05), abs=1e-4)


def test_the_last_look_spends_what_is_left_whenever_it_comes():
    assert levels_of([7], 24, 0.01, final=True) == pytest.approx((0.01,))
    assert levels_of([7], 24, 0.01, final=False)[0] == pytest.approx(pocock_spending(7 / 24, 0.01))
    early, late = levels_of([4, 12], 24, 0.01, final=False)[1], levels_of([4, 12], 24, 0.01, final=True)[1]
    assert early < late < 0.01


@given(st.floats(0, 1), st.floats(0, 1), st.floats(1e-6, 0.5))
def test_spending_rises_from_nothing_to_alpha(earlier, later, alpha):
    assert pocock_spending(0.0, alpha) == 0.0
    assert pocock_spending(1.0, alpha) == pytest.approx(alpha)
    if earlier <= later:
        assert pocock_spending(earlier, alpha) <= pocock_spending(later, alpha)
