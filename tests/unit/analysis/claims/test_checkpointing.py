from __future__ import annotations

from dataclasses import replace

import pytest
from lives import evidence
from trainings import MIB, around, training

from lorabench.analysis.claims.checkpointing import CHECKPOINTING_CUTS_DYNAMIC, CHECKPOINTING_RUNS_FORWARD_TWICE

MODES = ("none", "reentrant", "non-reentrant")


def modes(make_record, dynamic=(100, 40, 40), *, static=(None, None, None), **case):
    return [
        training(make_record, gradient_checkpointing=mode, dynamic=nbytes * MIB, static=fixed, **case)
        for mode, nbytes, fixed in zip(MODES, dynamic, static, strict=True)
    ]


def test_supported_where_both_modes_cut_alike(make_record):
    records = [record for kind in ("bf16", "nf4") for record in modes(make_record, quantization=kind)]
    finding = CHECKPOINTING_CUTS_DYNAMIC.test(evidence(*records))
    assert (finding.verdict, finding.effect, finding.n) == ("supported", pytest.approx(0.4), 4)
    assert "stays the same to the byte" in finding.summary


def test_refuted_where_nothing_is_cut(make_record):
    finding = CHECKPOINTING_CUTS_DYNAMIC.test(evidence(*modes(make_record, (100, 95, 95))))
    assert (finding.verdict, finding.effect) == ("refuted", pytest.approx(0.95))


def test_refuted_where_static_memory_changes(make_record):
    records = modes(make_record, static=(20 * MIB, 20 * MIB + 1, 20 * MIB + 1))
    finding = CHECKPOINTING_CUTS_DYNAMIC.test(evidence(*records))
    assert finding.verdict == "refuted"
    assert "static memory changes" in finding.summary


def test_conditional_where_non_reentrant_frees_less_under_int8(make_record):
    dense = modes(make_record, quantization="bf16")
    control = modes(make_record, quantization="nf4")
    int8 = modes(make_record, (110, 40, 80), quantization="int8", int8_threshold=0.0)
    finding = CHECKPOINTING_CUTS_DYNAMIC.test(evidence(*dense, *control, *int8))
    assert finding.verdict == "conditional"
    assert finding.condition == (
        "under bf16 and nf4 and under int8 at threshold 0 with reentrant checkpointing; "
        "not under int8 at threshold 0 with non-reentrant checkpointing"
    )
    assert "frees only 43% of what the other mode frees" in finding.summary


def test_int8_on_random_weights_decides_at_threshold_0_alone(make_record):
    outliers = modes(make_record, (300, 100, 290), quantization="int8", int8_threshold=6.0)
    dense = modes(make_record, quantization="bf16")
    finding = CHECKPOINTING_CUTS_DYNAMIC.test(evidence(*dense, *outliers))
    assert (finding.verdict, finding.n) == ("supported", 2)
    assert [row["decides"] for row in finding.rows if "int8" in row["weights"]] == [False, False]
    assert CHECKPOINTING_CUTS_DYNAMIC.test(evidence(*outliers)).verdict == "not tested"
    pretrained = modes(
        make_record,
        (300, 100, 290),
        quantization="int8",
        int8_threshold=6.0,
        weights="pretrained",
        model="smollm2-135m",
    )
    assert CHECKPOINTING_CUTS_DYNAMIC.test(evidence(*dense, *pretrained)).verdict == "conditional"


def test_cuts_not_tested_without_the_plain_case(make_record):
    finding = CHECKPOINTING_CUTS_DYNAMIC.test(evidence(*modes(make_record)[1:]))
    assert finding.verdict == "not tested"
    assert "with and without gradient checkpointing" in finding.missing[0]


def timed(make_record, ratio=1.5, calls=2.0, **case):
    return [
        training(
            make_record,
            gradient_checkpointing=mode,
            proof={"layer_forward_calls_per_step": calls if mode != "none" else 1.0},
            # The other way round, or every round would have the same ratio to the last digit.
            seconds=around(0.010) if mode == "none" else around(0.010 * ratio)[::-1],
            **case,
        )
        for mode in ("none", "non-reentrant")
    ]


def test_twice_supported_and_its_time_told(make_record):
    finding = CHECKPOINTING_RUNS_FORWARD_TWICE.test(evidence(*timed(make_record, group="checkpointing")))
    assert (finding.verdict, finding.effect, finding.missing) == ("supported", 2.0, ())
    [row] = finding.rows
    assert row["step ratio"] == pytest.approx(1.5)
    assert row["low"] < row["step ratio"] < row["high"]
    assert "1.50 [1.50, 1.50] times as long with a frozen base" in finding.summary


def test_twice_tells_full_fine_tuning_apart(make_record):
    adapted = timed(make_record, group="checkpointing[adapter=lora]")
    whole = [
        make_record(
            case={"adapter": None, "group": "all", "axes": (), "gradient_checkpointing": mode},
            proof=record.proof,
            latency={"step": record.latency["step"]},
        )
        for mode, record in zip(("none", "non-reentrant"), timed(make_record, ratio=1.33), strict=True)
    ]
    finding = CHECKPOINTING_RUNS_FORWARD_TWICE.test(evidence(*adapted, *whole))
    assert {row["trained"] for row in finding.rows} == {"adapter", "all weights"}
    assert "1.33 [1.33, 1.33] times as long training all weights." in finding.summary


def test_operations_are_told_beside_the_time_that_they_explain(make_record):
    """The head is not recomputed, so operations grow less than half. A record without counts has no share in it."""
    counts = ({"bf16": 4_000_000, "fp32": 1000}, {"bf16": 5_152_000, "fp32": 1288})
    records = [
        replace(record, observations={**record.observations, "work": {"step": {"flops": flops}}})
        for record, flops in zip(timed(make_record, ratio=1.30, group="checkpointing"), counts, strict=True)
    ]
    finding = CHECKPOINTING_RUNS_FORWARD_TWICE.test(evidence(*records))
    assert finding.rows[0]["operations ratio"] == pytest.approx(1.288)
    assert "times as long with a frozen base, with 1.29 times the operations." in finding.summary
    [row] = CHECKPOINTING_RUNS_FORWARD_TWICE.test(evidence(*timed(make_record, group="checkpointing"))).rows
    assert row["operations ratio"] is None


def test_twice_without_times_in_turn_says_so(make_record):
    finding = CHECKPOINTING_RUNS_FORWARD_TWICE.test(evidence(*timed(make_record)))
    assert finding.verdict == "supported"
    assert "in turn" in finding.missing[0]


def test_twice_refuted_conditional_and_not_tested(make_record):
    once = timed(make_record, calls=1.0, quantization="bf16")
    finding = CHECKPOINTING_RUNS_FORWARD_TWICE.test(evidence(*once))
    assert (finding.verdict, finding.effect) == ("conditional", 1.0)
    assert finding.condition == "for llama-tiny bf16 none; not for llama-tiny bf16 non-reentrant"
    thrice = [*timed(make_record, calls=3.0)]
    assert thrice[0].proof is not None
    wrong = training(make_record, proof={"layer_forward_calls_per_step": 2.0})
    finding = CHECKPOINTING_RUNS_FORWARD_TWICE.test(evidence(wrong, thrice[1]))
    assert (finding.verdict, finding.effect) == ("refuted", 3.0)
    assert CHECKPOINTING_RUNS_FORWARD_TWICE.test(evidence(thrice[1])).verdict == "not tested"


def test_launch_bound_share_is_told_where_it_is_known(make_record):
    records = timed(make_record, group="g")
    shares = {"launch_bound": {"step": {"gpu_busy_share": 0.4, "launch_bound_share": 0.6}}}
    known = training(
        make_record,
        gradient_checkpointing="non-reentrant",
        seconds=around(0.02),
        observations=shares,
        group="g",
    )
    [row] = CHECKPOINTING_RUNS_FORWARD_TWICE.test(evidence(records[0], known)).rows
    assert row["launch-bound share"] == 0.6
