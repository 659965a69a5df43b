from __future__ import annotations

from dataclasses import replace

import pytest
from lives import evidence
from trainings import MIB, around, training

from lorabench.analysis.claims.quantization import INT8_CUTS_STATIC
from lorabench.analysis.claims.shapes import shapes
from lorabench.report.page.claim_figure import draw_claim


def pair(
    make_record,
    model,
    *,
    int8_static=None,
    ratio=None,
    group=None,
    threshold=0.0,
    dynamic=12 * MIB,
    half="fp16",
    **case,
):
    return [
        training(
            make_record,
            model=model,
            quantization=kind,
            compute_dtype=half,
            int8_threshold=threshold,
            static=int8_static if kind == "int8" else None,
            dynamic=dynamic if kind == "int8" else 10 * MIB,
            seconds=around(0.010 * (ratio if kind == "int8" else 1)) if ratio else (),
            group=group,
            **case,
        )
        for kind in (half, "int8")
    ]


def test_supported_on_a_large_model(make_record):
    finding = INT8_CUTS_STATIC.test(evidence(*pair(make_record, "llama-2-7b", ratio=1.25, group="int8")))
    found = shapes("llama-2-7b")
    adapter = 4 * 4_194_304
    assert finding.verdict == "supported"
    assert finding.effect == (found.weight_bytes("int8") + adapter) / (found.weight_bytes("fp16") + adapter)
    assert finding.effect == pytest.approx(0.52, abs=0.002)
    [row] = finding.rows
    assert (row["step ratio"], row["dynamic ratio"]) == (pytest.approx(1.25), pytest.approx(1.2))
    assert finding.missing == ()
    # One model is the best and the worst: it is told once.
    assert finding.summary.startswith("int8 takes 0.520 of 16-bit static memory on llama-2-7b, as computed (0.520). ")


def test_conditional_by_model_with_the_bound_told(make_record):
    records = [*pair(make_record, "llama-2-7b"), *pair(make_record, "llama-3.2-1b")]
    finding = INT8_CUTS_STATIC.test(evidence(*records))
    assert finding.verdict == "conditional"
    assert "takes 0.520 of 16-bit static memory on llama-2-7b and 0.607 on llama-3.2-1b, as" in finding.summary
    assert finding.condition is not None
    assert finding.condition.startswith("on llama-2-7b (0.520); not on llama-3.2-1b (0.607)")
    assert "in turn" in finding.missing[0]


def test_conditional_where_it_cuts_and_never_halves(make_record):
    finding = INT8_CUTS_STATIC.test(evidence(*pair(make_record, "llama-tiny")))
    assert finding.verdict == "conditional"
    assert finding.condition is not None
    assert "not to half" in finding.condition


@pytest.mark.parametrize("static", [8_000_000, 3_000_000], ids=["no cut", "less than computed"])
def test_refuted_where_nothing_is_cut_or_not_as_computed(make_record, static):
    finding = INT8_CUTS_STATIC.test(evidence(*pair(make_record, "llama-tiny", int8_static=static)))
    assert finding.verdict == "refuted"


def test_threshold_0_decides_where_there_is_such_a_case(make_record):
    records = [
        *pair(make_record, "llama-tiny", threshold=0.0),
        pair(make_record, "llama-tiny", threshold=6.0, dynamic=90 * MIB)[1],
    ]
    [row, _] = INT8_CUTS_STATIC.test(evidence(*records)).rows
    assert row["ratio"] is not None
    assert (row["outlier threshold"], row["dynamic ratio"]) == (0.0, pytest.approx(1.2))
    [row] = INT8_CUTS_STATIC.test(evidence(records[0], records[2])).rows
    assert row["outlier threshold"] == 6.0


def test_checkpointing_has_a_price_of_its_own(make_record):
    """Neither it, nor a pair in the other dtype that pays less, stands for a model's price without it."""
    records = [
        *pair(make_record, "llama-tiny", half="bf16", dynamic=14 * MIB),
        *pair(make_record, "llama-tiny", half="fp16", dynamic=11 * MIB, sequence_length=64),
        *pair(make_record, "llama-tiny", half="bf16", dynamic=29 * MIB, gradient_checkpointing="non-reentrant"),
        *pair(make_record, "llama-mini", dynamic=12 * MIB),
    ]
    finding = INT8_CUTS_STATIC.test(evidence(*records))
    deciding = {row["model"]: row for row in finding.rows if row["ratio"] is not None}
    assert deciding["llama-tiny"]["dynamic ratio"] == pytest.approx(1.4)
    assert deciding["llama-tiny"]["checkpointing"] == "none"
    [beside] = [row for row in finding.rows if row["ratio"] is None]
    assert (beside["checkpointing"], beside["dynamic ratio"]) == ("non-reentrant", pytest.approx(2.9))
    assert "dynamic memory 1.20 to 1.40 (with non-reentrant checkpointing up to 2.90, on llama-tiny)" in finding.summary
    assert {record.key for record in records[4:6]} <= set(finding.evidence)
    [row] = INT8_CUTS_STATIC.test(evidence(*records[4:6])).rows
    assert (row["checkpointing"], row["dynamic ratio"]) == ("non-reentrant", pytest.approx(2.9))
    assert "up to" not in INT8_CUTS_STATIC.test(evidence(*records[4:6])).summary


def test_decode_times_come_from_inference(make_record):
    served = [
        replace(
            make_record(
                case={"task": "infer", "adapter": None, "quantization": kind, "axes": (), "group": "int8-inference"}
            ),
            latency={"decode": training(make_record, seconds=around(seconds)).latency["step"]},
        )
        for kind, seconds in (("fp16", 0.004), ("int8", 0.010))
    ]
    [row] = INT8_CUTS_STATIC.test(evidence(*pair(make_record, "llama-tiny"), *served)).rows
    assert row["decode ratio"] == pytest.approx(2.5)
    assert row["decode low"] <= row["decode ratio"] <= row["decode high"] < 2.6


def test_cuts_not_tested_without_int8(make_record):
    finding = INT8_CUTS_STATIC.test(evidence(*pair(make_record, "llama-tiny")[:1]))
    assert finding.verdict == "not tested"
    assert "int8" in finding.missing[0]


def test_the_gpus_own_time_stands_beside_the_walls(make_record):
    half, int8 = pair(make_record, "llama-2-7b", ratio=2.0, group="int8")
    busy = [
        replace(one, observations={**one.observations, "launch_bound": {"step": {"gpu_busy_s": seconds}}})
        for one, seconds in ((half, 0.004), (int8, 0.005))
    ]
    finding = INT8_CUTS_STATIC.test(evidence(*busy))
    [row] = finding.rows
    assert (row["step ratio"], row["step GPU ratio"]) == (pytest.approx(2.0), pytest.approx(1.25))
    assert "a step 2.00 (of the GPU's own time 1.25)" in finding.summary
    assert "decode GPU ratio" not in row
    # Without a GPU there is no such time.
    finding = INT8_CUTS_STATIC.test(evidence(half, int8))
    assert "step GPU ratio" not in finding.rows[0]
    assert "a step 2.00." in finding.summary


def above(make_record, model="llama-tiny", dynamic=90 * MIB, share=0.75, **case):
    """int8 at the default threshold, with the share of outlier columns in one layer of two."""
    shares = {"model.layers.0.mlp.down_proj": share, "model.layers.0.self_attn.q_proj": 0.0}
    return pair(make_record, model, threshold=6.0, dynamic=dynamic, proof={"outlier_share": shares}, **case)[1]


def test_a_threshold_above_0_is_told_beside_the_same_case_at_0(make_record):
    """12, and 30 with checkpointing, of 10 MiB at threshold 0; 90 and 40 at 6. Neither the other mode's nor another
    model's price stands beside them."""
    plain = pair(make_record, "llama-tiny")
    freed = pair(make_record, "llama-tiny", dynamic=30 * MIB, gradient_checkpointing="non-reentrant")
    other = pair(make_record, "llama-mini", dynamic=11 * MIB)
    over = [
        above(make_record),
        above(make_record, dynamic=40 * MIB, share=0.5, gradient_checkpointing="non-reentrant"),
    ]
    finding = INT8_CUTS_STATIC.test(evidence(*plain, *freed, *other, *over))
    assert finding.summary.endswith(
        " All of it at outlier threshold 0. At the default of 6, where outlier columns are multiplied apart, dynamic "
        "memory with random weights (up to 75% of a down_proj's columns are outliers) is 9.00 without checkpointing "
        "(at 0: 1.20), 4.00 with non-reentrant checkpointing (at 0: 3.00)."
    )
    assert {record.key for record in (*plain, *freed, *over)} <= set(finding.evidence)
    told = {
        (row["checkpointing"], row["outlier threshold"]): (row["dynamic ratio"], row.get("largest outlier share"))
        for row in finding.rows
        if row["model"] == "llama-tiny"
    }
    assert told == {
        ("none", 0.0): (pytest.approx(1.2), None),
        ("none", 6.0): (pytest.approx(9.0), 0.75),
        ("non-reentrant", 0.0): (pytest.approx(3.0), None),
        ("non-reentrant", 6.0): (pytest.approx(4.0), 0.5),
    }
    assert {row["weights"] for row in finding.rows} == {"random"}


def test_rows_beside_decide_nothing_and_have_no_bar(make_record):
    alone = INT8_CUTS_STATIC.test(evidence(*pair(make_record, "llama-tiny"), *pair(make_record, "llama-mini")))
    more = INT8_CUTS_STATIC.test(
        evidence(*pair(make_record, "llama-tiny"), *pair(make_record, "llama-mini"), above(make_record))
    )
    assert (more.verdict, more.condition, more.effect, more.n) == (
        alone.verdict,
        alone.condition,
        alone.effect,
        alone.n,
    )
    assert [row["ratio"] is None for row in more.rows] == [False, False, True]
    figure = INT8_CUTS_STATIC.figure
    assert figure is not None
    assert draw_claim("bars", figure, more.rows) == draw_claim("bars", figure, alone.rows)


def test_random_weights_above_0_are_not_told_without_the_same_case_at_0(make_record):
    longer = above(make_record, sequence_length=64)
    records = [*pair(make_record, "llama-tiny"), *pair(make_record, "llama-tiny", sequence_length=64)[:1], longer]
    finding = INT8_CUTS_STATIC.test(evidence(*records))
    assert len(finding.rows) == 1
    assert "9.00" not in finding.summary
    assert longer.key not in finding.evidence


def test_pretrained_weights_above_0_are_told_by_themselves(make_record):
    trained = {"model": "smollm2-135m", "weights": "pretrained"}
    records = [*pair(make_record, "llama-tiny"), *pair(make_record, threshold=6.0, dynamic=15 * MIB, **trained)]
    finding = INT8_CUTS_STATIC.test(evidence(*records))
    assert finding.summary.endswith(
        " Dynamic memory on smollm2-135m is at outlier threshold 6 with pretrained weights."
    )
    # Where another case decides, beside it.
    trained["sequence_length"] = 64
    decides = pair(make_record, "smollm2-135m", weights="pretrained", dynamic=13 * MIB)
    more = [*decides, *pair(make_record, threshold=6.0, dynamic=15 * MIB, **trained)]
    finding = INT8_CUTS_STATIC.test(evidence(*more))
    assert finding.summary.endswith(
        " All of it at outlier threshold 0. At the default of 6, where outlier columns are multiplied apart, dynamic "
        "memory with pretrained weights is 1.50 without checkpointing."
    )
    assert [row["dynamic ratio"] for row in finding.rows] == pytest.approx([1.3, 1.5])


def test_a_price_of_random_weights_above_0_alone_says_what_it_is(make_record):
    half, _ = pair(make_record, "llama-tiny")
    finding = INT8_CUTS_STATIC.test(evidence(half, above(make_record)))
    assert finding.summary.endswith(
        " Dynamic memory on llama-tiny is at outlier threshold 6 with random weights: how many of their columns are "
        "outliers is an accident of the initialisation (up to 75% of a down_proj's columns are outliers)."
    )
    assert finding.rows[0]["largest outlier share"] == 0.75
    none = INT8_CUTS_STATIC.test(evidence(half, above(make_record, share=0.0)))
    assert none.summary.endswith("initialisation (no column is an outlier).")
