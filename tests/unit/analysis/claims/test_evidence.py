from __future__ import annotations

from dataclasses import replace

import pytest

from lorabench.analysis.claims.evidence import (
    Evidence,
    Scope,
    fits,
    keys,
    observed,
    outliers_by_chance,
    samples,
    setting,
)
from lorabench.case import Adapter

SCOPE = Scope("cpu", "Imaginary CPU", "measured")


def evidence(*records):
    return Evidence(SCOPE, records)


@pytest.fixture
def make(make_record):
    def case(**settings):
        repeat = settings.pop("repeat", 0)
        adapter = Adapter(**settings.pop("adapter", {}))
        return make_record(case={"axes": (), "adapter": adapter, **settings}, repeat=repeat)

    return case


def test_settings_and_observations_are_reached_by_dots(make):
    record = replace(make(adapter={"rank": 4}), observations={"lifecycle": {"merge": {"weights_equal": True}}})
    assert (setting(record, "adapter.rank"), setting(record, "batch_size")) == (4, 1)
    assert setting(record, "adapter.rank.more") is None
    assert observed(record, "lifecycle.merge.weights_equal") is True
    assert observed(record, "lifecycle.merge.other.still") is None
    assert samples(record, "step") == (0.010, 0.011, 0.012)
    assert samples(record, "merge") == ()


def test_where_takes_a_value_any_of_several_or_a_question(make):
    records = [make(batch_size=size) for size in (1, 2, 4)]
    found = evidence(*records)
    assert found.where(batch_size=2) == [records[1]]
    assert found.where({"batch_size": (1, 4)}) == [records[0], records[2]]
    assert found.where({"batch_size": {1, 4}}, task="train") == [records[0], records[2]]
    assert found.where({"batch_size": lambda size: size > 1}) == records[1:]
    assert found.where(task="infer") == []


def test_a_list_setting_is_matched_as_a_list(make):
    record = make(adapter={"target_modules": ("q_proj", "v_proj")})
    assert fits(record, {"adapter.target_modules": ["q_proj", "v_proj"]})
    assert not fits(record, {"adapter.target_modules": ["v_proj"]})


def test_settings_of_another_quantization_do_not_count(make):
    assert fits(make(quantization="bf16"), {"int8_threshold": 0.0})
    assert not fits(make(quantization="int8"), {"int8_threshold": 0.0})
    assert fits(make(quantization="int8", int8_threshold=0.0), {"int8_threshold": 0.0})


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ({"quantization": "int8", "int8_threshold": 6.0}, True),
        ({"quantization": "int8", "int8_threshold": 0.0}, False),
        ({"quantization": "int8", "int8_threshold": 6.0, "weights": "pretrained"}, False),
        ({"quantization": "bf16", "int8_threshold": 6.0}, False),
    ],
)
def test_outliers_of_random_weights_are_an_accident(make_record, case, expected):
    assert outliers_by_chance(make_record(case=case)) is expected


def test_a_series_holds_what_differs_in_one_setting_alone(make):
    ranks = [make(adapter={"rank": rank}) for rank in (16, 4, 8)]
    others = [make(adapter={"rank": 4}, batch_size=2), make(adapter={"rank": 4, "dropout": 0.1})]
    [series] = evidence(*ranks, *others).series("adapter.rank")
    assert [setting(record, "adapter.rank") for record in series] == [4, 8, 16]


def test_two_settings_part_two_series_unless_one_is_ignored(make):
    records = [
        make(adapter={"rank": rank, "alpha": alpha}) for rank, alpha in ((4, 8.0), (8, 8.0), (4, 16.0), (8, 16.0))
    ]
    assert len(evidence(*records).series("adapter.rank")) == 2
    assert len(evidence(*records).series("adapter.rank", ignoring=("adapter.alpha",))) == 1
    proportional = evidence(records[0], records[3])
    assert proportional.series("adapter.rank") == []
    assert len(proportional.series("adapter.rank", ignoring=("adapter.alpha",))) == 1


def test_seeds_are_never_mixed_in_a_series(make):
    records = [make(adapter={"rank": rank}, seed=seed) for rank, seed in ((4, 0), (8, 1))]
    assert evidence(*records).series("adapter.rank") == []


def test_settings_that_follow_the_axis_may_differ(make):
    dense = make(quantization="fp16", compute_dtype="bf16")
    int8 = make(quantization="int8", int8_threshold=0.0, compute_dtype="fp16")
    assert evidence(dense, int8).pairs("quantization", "fp16", "int8") == [(dense, int8)]
    small, large = make(model="llama-tiny", architecture="a"), make(model="llama-mini", architecture="b")
    assert evidence(small, large).pairs("model", "llama-tiny", "llama-mini") == [(small, large)]


def test_the_threshold_parts_series_of_int8_alone(make):
    int8 = [
        make(quantization="int8", int8_threshold=threshold, gradient_checkpointing=mode)
        for threshold in (0.0, 6.0)
        for mode in ("none", "reentrant")
    ]
    assert len(evidence(*int8).series("gradient_checkpointing")) == 2
    dense = [
        make(int8_threshold=threshold, gradient_checkpointing=mode)
        for threshold, mode in ((0.0, "none"), (6.0, "reentrant"))
    ]
    assert len(evidence(*dense).series("gradient_checkpointing")) == 1


def test_a_case_that_several_scenarios_ran_counts_once_the_last(make):
    first, again = make(adapter={"rank": 4}), make(adapter={"rank": 4}, scenario="other")
    eight = make(adapter={"rank": 8})
    assert evidence(first, eight, again).series("adapter.rank") == [[again, eight]]


def test_pairs_name_the_first_and_the_second(make):
    off, on = make(use_cache=False), make(use_cache=True)
    assert evidence(on, off).pairs("use_cache", False, True) == [(off, on)]
    assert evidence(on, off).pairs("use_cache", False, True, {"task": "infer"}) == []


def test_times_are_compared_within_a_group_and_a_repeat_alone(make):
    def two(group, repeat=0):
        return [make(use_cache=asked, group=group, repeat=repeat) for asked in (False, True)]

    alone = two(None)
    assert evidence(*alone).series("use_cache", in_turn=True) == []
    assert len(evidence(*alone).series("use_cache")) == 1
    first, second, again = two("a"), two("b"), two("a", repeat=1)
    assert evidence(*alone, *first, *second, *again).series("use_cache", in_turn=True) == [first, second, again]
    torn = [make(use_cache=False, group="a"), make(use_cache=True, group="b")]
    assert evidence(*torn).series("use_cache", in_turn=True) == []


def test_keys_name_each_record_once_in_order(make):
    four, eight = make(adapter={"rank": 4}), make(adapter={"rank": 8})
    assert keys([eight, four, eight]) == (eight.key, four.key)
