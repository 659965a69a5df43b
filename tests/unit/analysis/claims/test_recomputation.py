from __future__ import annotations

from dataclasses import replace

import pytest
from lives import evidence
from trainings import around, training

from lorabench.analysis.claims.recomputation import CHECKPOINTING_RUNS_FORWARD_TWICE


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


def test_the_gpus_own_time_stands_beside_the_walls(make_record):
    plain, again = timed(make_record, group="g")
    assert "GPU ratio" not in CHECKPOINTING_RUNS_FORWARD_TWICE.test(evidence(plain, again)).rows[0]
    seen = [
        replace(one, observations={**one.observations, "launch_bound": {"step": {"gpu_busy_s": seconds}}})
        for one, seconds in ((plain, 0.004), (again, 0.005))
    ]
    assert CHECKPOINTING_RUNS_FORWARD_TWICE.test(evidence(*seen)).rows[0]["GPU ratio"] == pytest.approx(1.25)
