"""Rounds: what of the samples is compared with what."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lives import evidence, timing
from trainings import training

from lorabench.analysis.claims.timing import busy_ratio, in_rounds, timed_in_turn

AXIS = "gradient_checkpointing"


@pytest.fixture
def arm(make_record):
    """An arm of a group with these seconds a step; ``turn_steps`` None is a record from before turns were told."""

    def make(mode, *seconds, turn_steps=1, stages=None, **case):
        observed = {"turn_steps": turn_steps} | ({} if stages is None else {"timing_stages_s": {"timing": stages}})
        return training(
            make_record, gradient_checkpointing=mode, seconds=seconds, observations=observed, group="g", **case
        )

    return make


def rounds(records, phase="step"):
    return [one.rounds_s for one in in_rounds(records, phase)]


def test_a_round_is_the_median_of_each_arms_turn(arm):
    plain, other = arm("none", 1.0, 9.0, 2.0, 3.0, 3.0, 4.0, turn_steps=3), arm("reentrant", *[5.0] * 6, turn_steps=3)
    assert rounds([plain, other]) == [(2.0, 3.0), (5.0, 5.0)]
    single = arm("none", 1.0, 9.0, 2.0), arm("reentrant", 5.0, 6.0, 7.0)
    assert rounds(single) == [(1.0, 9.0, 2.0), (5.0, 6.0, 7.0)]


def test_records_that_do_not_tell_their_turns_had_four_steps_in_each(arm):
    seconds = [1.0] * 4 + [2.0] * 4 + [3.0] * 2
    assert rounds([arm("none", *seconds, turn_steps=None)]) == [(1.0, 2.0, 3.0)]
    assert rounds([arm("none", *seconds, turn_steps=0)]) == [(1.0, 2.0, 3.0)]


def test_a_round_without_a_time_is_left_out_of_every_arm(arm):
    records = [arm("none", 1.0, 0.0, 3.0, 4.0), arm("reentrant", 5.0, 6.0, float("inf"), 8.0)]
    assert rounds(records) == [(1.0, 4.0), (5.0, 8.0)]


def test_an_arm_without_the_phase_is_none(arm):
    plain, other = arm("none", 1.0, 2.0), replace(arm("reentrant", 3.0, 4.0), latency={"prefill": timing(7.0)})
    assert [one.record for one in in_rounds([plain, other], "step")] == [plain]


def test_arms_of_two_processes_share_no_rounds(arm):
    plain = arm("none", 1.0, 2.0, stages=12.25)
    assert rounds([plain, arm("reentrant", 3.0, 4.0, stages=12.25)]) == [(1.0, 2.0), (3.0, 4.0)]
    assert rounds([plain, arm("reentrant", 3.0, 4.0, stages=11.5)]) == []
    assert rounds([plain, arm("reentrant", 3.0, 4.0)]) == []


def test_repeats_add_rounds_and_too_few_are_no_comparison(arm):
    def of(repeat, *seconds):
        arms = arm("none", *seconds), arm("reentrant", *(2 * one for one in seconds))
        return [replace(record, repeat=repeat) for record in arms]

    assert timed_in_turn(evidence(*of(0, 1.0, 2.0)), AXIS) == []
    [pooled] = timed_in_turn(evidence(*of(0, 1.0, 2.0), *of(1, 3.0, 4.0)), AXIS)
    assert [one.rounds_s for one in pooled] == [(1.0, 2.0, 3.0, 4.0), (2.0, 4.0, 6.0, 8.0)]


def busy(record, seconds):
    return replace(record, observations={**record.observations, "launch_bound": {"step": {"gpu_busy_s": seconds}}})


def test_the_gpus_own_ratio_is_known_where_both_were_profiled(arm):
    with_it, without = arm("reentrant", 0.020), arm("none", 0.010)
    assert busy_ratio(busy(with_it, 0.006), busy(without, 0.004)) == pytest.approx(1.5)
    assert busy_ratio(busy(with_it, 0.006), without) is None
    # Kernels of two processes take turns: how long one of them had work is not told by a profile.
    for text in ("something else used the GPU (1 process, 900 MiB)", "another process came to the GPU while timed"):
        beside = busy(with_it, 0.006)
        beside = replace(beside, observations={**beside.observations, "warnings": [text]})
        assert busy_ratio(beside, busy(without, 0.004)) is None
        assert busy_ratio(busy(without, 0.004), beside) is None
    # Nothing ran on it: there is no ratio to tell.
    assert busy_ratio(busy(with_it, 0.006), busy(without, 0.0)) is None
