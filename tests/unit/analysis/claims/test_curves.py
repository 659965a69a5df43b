from __future__ import annotations

import math

import pytest
from trainings import training

from lorabench.analysis.claims.curves import climbs, diverged, loss_curves, mean_loss, spread


@pytest.fixture
def curve(make_record):
    return lambda *losses: training(make_record, observations={"losses": list(losses)})


def test_a_curve_climbs_by_its_rises_alone(curve):
    assert climbs(curve(3.0, 2.0, 2.5, 1.0, 1.25)) == pytest.approx(0.75 / 4)
    assert climbs(curve(3.0, 2.0, 1.0)) == 0


def test_curves_lie_apart_by_the_mean_distance_of_highest_and_lowest(curve):
    assert spread([curve(3, 2, 1), curve(3, 1, 1), curve(3, 2, 0)]) == pytest.approx((0 + 1 + 1) / 3)
    assert spread([curve(3, 2, 1), curve(3, 2)]) == 0


def test_a_loss_that_is_not_finite_counts_as_twice_the_highest(curve):
    assert loss_curves([curve(3, None, 1), curve(2, 5, 1)]) == [[3, 10, 1], [2, 5, 1]]
    assert climbs(curve(4.0, None)) == pytest.approx(4.0)


def test_no_curve_is_none(curve, make_record):
    assert loss_curves([training(make_record)]) is None
    assert loss_curves([curve(3.0)]) is None
    assert loss_curves([curve(None, None)]) is None
    assert spread([]) is None


def test_a_curve_diverges_above_its_beginning_above_a_guess_or_beyond_numbers(curve):
    guess = math.log(2048)
    assert not diverged(curve(3, 5, 1))
    assert diverged(curve(3, 1, 4))
    assert diverged(curve(3, None, 1))
    assert diverged(curve(guess + 0.1, 3, 1))
    assert not diverged(curve())
    assert mean_loss(curve(3, 2, 1)) == 2
