"""Shares worked out by hand."""

from __future__ import annotations

import pytest

from lorabench.analysis.timed_share import timed_share


def test_a_case_alone_counts_its_own_timing(make_record):
    records = [
        make_record(wall_s=4.0, observations={"stages_s": {"build": 1.0, "timing": 2.0}}),
        make_record(wall_s=6.0, observations={"stages_s": {"timing": 5.0}}),
    ]
    assert timed_share(records) == pytest.approx(0.7)


def test_arms_of_one_process_count_it_once(make_record):
    together = {"stages_s": {"build": 1.0}, "timing_stages_s": {"timing": 6.0}}
    records = [make_record(group="arms", wall_s=5.0, observations=together) for _ in range(2)]
    assert timed_share(records) == pytest.approx(0.6)
    assert timed_share([*records, make_record(group="others", wall_s=2.0, observations=together)]) == pytest.approx(1.0)


def test_what_was_not_timed_does_not_count(make_record):
    timed = make_record(wall_s=4.0, observations={"stages_s": {"timing": 2.0}})
    untimed = make_record(wall_s=50.0, observations={"stages_s": {"build": 50.0}})
    predicted = make_record(wall_s=50.0, source="predicted", observations={"stages_s": {"timing": 50.0}})
    assert timed_share([timed, untimed, predicted]) == pytest.approx(0.5)
    assert timed_share([untimed, predicted]) is None


@pytest.mark.parametrize("odd", [None, "long", {"timing": None}, {"timing": "long"}])
def test_odd_stages_are_no_time(make_record, odd):
    assert timed_share([make_record(observations={"stages_s": odd})]) is None
