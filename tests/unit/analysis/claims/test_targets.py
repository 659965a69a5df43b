from __future__ import annotations

import pytest
from lives import evidence, life
from trainings import around, training

from lorabench.analysis.claims.targets import TARGET_MODULES

FEW = ("q_proj", "v_proj")
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


def cases(make_record, targets=(FEW, ATTENTION, "all-linear"), wrong=(), group=None, **case):
    return [
        training(
            make_record,
            adapter={"target_modules": names},
            proof={"adapter_modules": 99} if names in wrong else {},
            seconds=around(0.010 * (1 + index)) if group else (),
            dynamic=(10 + index) << 20,
            group=group,
            **case,
        )
        for index, names in enumerate(targets)
    ]


def test_supported_where_counts_are_those_of_the_names(make_record):
    finding = TARGET_MODULES.test(evidence(*cases(make_record, group="targets")))
    assert (finding.verdict, finding.effect, finding.n, finding.missing) == ("supported", 1.0, 3, ())
    # llama-tiny has 4 layers of 7 linear layers.
    assert [row["adapted layers"] for row in finding.rows] == [4 * 2, 4 * 4, 4 * 7]
    assert [row["step ratio"] for row in finding.rows] == [None, pytest.approx(2), pytest.approx(3)]
    assert "all-linear takes 3.00 times the step time" in finding.summary


def test_times_that_were_not_taken_in_turn_are_missing(make_record):
    finding = TARGET_MODULES.test(evidence(*cases(make_record)))
    assert finding.verdict == "supported"
    assert "in turn" in finding.missing[0]


def test_refuted_where_all_counts_are_wrong(make_record):
    finding = TARGET_MODULES.test(evidence(*cases(make_record, wrong=(FEW, ATTENTION, "all-linear"))))
    assert (finding.verdict, finding.effect) == ("refuted", 0.0)


def test_conditional_where_one_set_of_targets_is_wrong(make_record):
    finding = TARGET_MODULES.test(evidence(*cases(make_record, wrong=("all-linear",))))
    assert finding.verdict == "conditional"
    assert finding.condition is not None
    assert finding.condition.endswith("not under all-linear")


def test_a_layer_that_a_lifecycle_found_missing_counts(make_record):
    missed = life(make_record, {"modules.missing": ["model.layers.0.self_attn.q_proj"]}, model="llama-tiny")
    finding = TARGET_MODULES.test(evidence(*cases(make_record), missed))
    assert finding.verdict == "conditional"
    assert finding.effect == pytest.approx(3 / 4)
    assert finding.condition == "under q_proj+k_proj+v_proj+o_proj and all-linear; not under q_proj+v_proj"


def test_counts_by_name_are_read_where_the_worker_has_them(make_record):
    records = cases(make_record, (FEW, "all-linear"))
    counted = training(
        make_record,
        adapter={"target_modules": ATTENTION},
        observations={"training": {"trainable": {"lora": 1, "bias": 0, "head": 0, "other": 0}}},
    )
    assert TARGET_MODULES.test(evidence(*records, counted)).verdict == "conditional"


def test_not_tested_with_one_set_of_targets(make_record):
    finding = TARGET_MODULES.test(evidence(*cases(make_record, (FEW,))))
    assert finding.verdict == "not tested"
    assert "target modules" in finding.missing[0]
