from __future__ import annotations

import pytest
from lives import evidence
from trainings import MIB, training, without_memory

from lorabench.analysis.claims.memory import DYNAMIC_FOLLOWS_BATCH, STATIC_FOLLOWS_PARAMETERS


def three_axes(make_record, **case):
    """Cases that differ in batch size, in length and in rank alone."""
    return [
        *(training(make_record, batch_size=batch, **case) for batch in (1, 2)),
        training(make_record, sequence_length=64, **case),
        training(make_record, adapter={"rank": 16}, **case),
    ]


def test_static_supported_where_it_is_the_bytes_of_the_parameters(make_record):
    several = [training(make_record, quantization=kind) for kind in ("bf16", "int8", "nf4")]
    prepared = training(make_record, quantization="int8", kbit_preparation=True)
    finding = STATIC_FOLLOWS_PARAMETERS.test(evidence(*three_axes(make_record), *several, prepared))
    assert finding.verdict == "supported"
    assert finding.effect == pytest.approx(0, abs=1e-12)
    assert {row["model"] for row in finding.rows} == {
        *(f"llama-tiny {kind}" for kind in ("fp32", "bf16", "int8", "nf4")),
        "llama-tiny int8 prepared",
    }


def test_static_refuted_a_percent_off(make_record):
    computed = training(make_record).memory
    assert computed is not None
    records = [
        training(make_record, batch_size=batch, sequence_length=length, adapter={"rank": rank}, static=16_500_000)
        for batch, length, rank in ((1, 512, 8), (2, 512, 8), (1, 64, 8), (1, 512, 9))
    ]
    finding = STATIC_FOLLOWS_PARAMETERS.test(evidence(*records))
    assert finding.verdict == "refuted"
    assert finding.effect == pytest.approx(100 * (16_500_000 / computed.static_bytes - 1), rel=0.01)


def test_static_conditional_where_one_form_of_weights_is_off(make_record):
    wrong = training(make_record, quantization="int8", static=6 * MIB)
    finding = STATIC_FOLLOWS_PARAMETERS.test(evidence(*three_axes(make_record), wrong))
    assert finding.verdict == "conditional"
    assert finding.condition == "under llama-tiny fp32; not under llama-tiny int8"


def test_static_tells_a_variant_of_the_adapter_from_the_plain_one(make_record):
    dora = training(make_record, adapter={"options": {"use_dora": True}}, static=6 * MIB)
    finding = STATIC_FOLLOWS_PARAMETERS.test(evidence(*three_axes(make_record), dora))
    assert finding.condition == "under llama-tiny fp32; not under llama-tiny fp32 with use_dora"


def test_static_conditional_where_one_byte_comes_with_the_batch(make_record):
    plain = training(make_record).memory
    assert plain is not None
    assert plain.static_bytes is not None
    more = training(make_record, batch_size=3, static=plain.static_bytes + 1)
    finding = STATIC_FOLLOWS_PARAMETERS.test(evidence(*three_axes(make_record), more))
    assert finding.verdict == "conditional"
    assert finding.condition is not None
    assert "a changing batch size" in finding.condition


@pytest.mark.parametrize(
    ("left_out", "axis"), [((1,), "batch_size"), ((2,), "sequence_length"), ((3,), "adapter.rank")]
)
def test_static_not_tested_without_an_axis(make_record, left_out, axis):
    records = [record for index, record in enumerate(three_axes(make_record)) if index not in left_out]
    finding = STATIC_FOLLOWS_PARAMETERS.test(evidence(*records))
    assert finding.verdict == "not tested"
    assert finding.missing == (f"training cases that differ in {axis} alone",)


def batches(make_record, dynamic, **case):
    return [
        training(make_record, batch_size=batch, dynamic=nbytes, **case)
        for batch, nbytes in zip((1, 2, 4, 8), dynamic, strict=False)
    ]


def models(make_record, dynamic=(10, 30)):
    names = ("llama-tiny", "llama-mini")
    return [
        training(make_record, model=model, sequence_length=64, dynamic=nbytes * MIB)
        for model, nbytes in zip(names, dynamic, strict=True)
    ]


STRAIGHT = [(2 + 10 * batch) * MIB for batch in (1, 2, 4, 8)]
CURVED = [batch**2 * 10 * MIB for batch in (1, 2, 4, 8)]


def test_dynamic_supported_by_a_line_and_a_larger_model(make_record):
    finding = DYNAMIC_FOLLOWS_BATCH.test(evidence(*batches(make_record, STRAIGHT), *models(make_record)))
    assert finding.verdict == "supported"
    assert finding.effect == pytest.approx(1)
    assert "grows by 10 MiB with each sequence of the batch beside a fixed 2 MiB" in finding.summary


def test_dynamic_refuted_by_a_curve_and_a_larger_model_that_needs_less(make_record):
    finding = DYNAMIC_FOLLOWS_BATCH.test(evidence(*batches(make_record, CURVED), *models(make_record, (30, 10))))
    assert finding.verdict == "refuted"


def test_dynamic_conditional_where_the_model_does_not_matter(make_record):
    finding = DYNAMIC_FOLLOWS_BATCH.test(evidence(*batches(make_record, STRAIGHT), *models(make_record, (30, 30))))
    assert finding.verdict == "conditional"
    assert finding.condition == "with the batch size (llama-tiny fp32); not with model size without checkpointing"


def test_checkpointing_does_not_hide_behind_longer_series_without(make_record):
    """Three sizes grow without it, and one of two quantizations falls with it: that one is shown."""
    sizes = ("llama-tiny", "llama-mini", "smollm2-135m")
    records = [
        training(make_record, model=model, dynamic=dynamic * MIB, sequence_length=64, **case)
        for case, dynamics in (
            ({}, (10, 20, 30)),
            ({"gradient_checkpointing": "reentrant"}, (10, 20)),
            ({"gradient_checkpointing": "reentrant", "quantization": "nf4"}, (20, 10)),
        )
        for model, dynamic in zip(sizes, dynamics, strict=False)
    ]
    finding = DYNAMIC_FOLLOWS_BATCH.test(evidence(*batches(make_record, STRAIGHT), *records))
    assert finding.condition == (
        "with the batch size (llama-tiny fp32) and model size without checkpointing; not with model size with "
        "reentrant checkpointing"
    )
    assert "it grows at every size in 1 of 1 series without checkpointing (smollm2-135m takes 3 " in finding.summary
    assert "and in 1 of 2 series with reentrant checkpointing (llama-mini takes 0.5 times what" in finding.summary
    shown = {row["series"]: row["times its dynamic"] for row in finding.rows if "models" in row["series"]}
    assert shown == {"models in fp32": 3.0, "models in nf4, reentrant": 0.5}


def test_dynamic_tells_the_order_of_the_length(make_record):
    lengths = [
        training(make_record, attention=attention, sequence_length=length, dynamic=length**order * MIB // 64)
        for attention, order in (("sdpa", 1), ("eager", 2))
        for length in (256, 1024)
    ]
    records = [*batches(make_record, STRAIGHT, sequence_length=128), *models(make_record), *lengths]
    summary = DYNAMIC_FOLLOWS_BATCH.test(evidence(*records)).summary
    assert "length^1.00 at the end (llama-tiny fp32, sdpa attention)" in summary
    assert "length^2.00 at the end (llama-tiny fp32, eager attention)" in summary


def test_models_of_two_families_are_not_compared(make_record):
    two = [
        training(make_record, model="llama-tiny", sequence_length=64),
        training(make_record, model="opt-tiny", sequence_length=64),
    ]
    finding = DYNAMIC_FOLLOWS_BATCH.test(evidence(*batches(make_record, STRAIGHT), *two))
    assert finding.verdict == "not tested"
    assert "one family" in finding.missing[0]


def test_dynamic_not_tested_with_two_batch_sizes_or_without_memory(make_record):
    for records in (batches(make_record, STRAIGHT[:2]), map(without_memory, batches(make_record, STRAIGHT))):
        finding = DYNAMIC_FOLLOWS_BATCH.test(evidence(*records, *models(make_record)))
        assert finding.verdict == "not tested"
        assert "batch size" in finding.missing[0]
