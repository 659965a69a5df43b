"""Many comparisons, one verdict: what is corrected for, and what is not."""

from __future__ import annotations

import pytest

from lorabench.analysis.claims.comparisons import Comparison, RatioTest, judge_comparisons, settle
from lorabench.analysis.statistics import Estimate


@pytest.fixture
def compared(make_record):
    """Comparisons at one batch size each with these p values of holding and of failing."""

    def make(*p_values: tuple[float, float]) -> list[Comparison]:
        return [
            Comparison(
                make_record(case={"task": "infer", "batch_size": index + 1}),
                make_record(case={"task": "infer", "batch_size": index + 1}),
                "prefill",
                RatioTest(Estimate(1.1, 1.05, 1.15, 8), p_held, p_failed),
            )
            for index, (p_held, p_failed) in enumerate(p_values)
        ]

    return make


def outcomes(comparisons):
    return [one.outcome for one in settle(comparisons)]


def test_all_that_hold_need_no_correction(compared):
    """An intersection-union test at 5% has every part at 5%, however many there are."""
    many = compared(*[(0.04, 1.0)] * 20)
    assert outcomes(many) == ["held"] * 20
    assert {one.p_held for one in settle(many)} == {0.04}
    assert judge_comparisons(settle(many)) == ("supported", None, 0.04)
    assert judge_comparisons(settle(compared(*[(1.0, 0.03)] * 20))) == ("refuted", None, 0.03)


def test_the_one_of_many_that_fails_is_corrected(compared):
    """One failure at 4% among twenty is what chance gives: Holm's factor makes it 0.8."""
    chance = compared(*[(0.0001, 1.0)] * 19, (1.0, 0.04))
    assert outcomes(chance)[-1] == "undecided"
    assert [one.p_failed for one in settle(chance)][-1] == pytest.approx(20 * 0.04)
    assert judge_comparisons(settle(chance))[0] == "inconclusive"
    sure = compared(*[(0.0001, 1.0)] * 19, (1.0, 0.0005))
    verdict, condition, p_value = judge_comparisons(settle(sure))
    assert (verdict, p_value) == ("conditional", pytest.approx(20 * 0.0005))
    assert condition is not None
    assert condition.endswith("not at batch size 20")


def test_what_is_undecided_leaves_no_verdict_but_a_condition(compared):
    assert judge_comparisons(settle(compared((0.001, 1.0), (0.2, 0.3))))[0] == "inconclusive"
    assert judge_comparisons(settle(compared((1.0, 0.001), (0.2, 0.3))))[0] == "inconclusive"
    verdict, condition, _ = judge_comparisons(settle(compared((0.001, 1.0), (0.2, 0.3), (1.0, 0.001))))
    assert verdict == "conditional"
    assert condition is not None
    assert condition == "at batch size 1; not at batch size 3; undecided in 1"
