"""The claim on what dynamic memory grows with."""

from __future__ import annotations

import pytest
from lives import evidence
from trainings import MIB, training, without_memory

from lorabench.analysis.claims.growth import DYNAMIC_FOLLOWS_BATCH


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
    each = "length^1.00 (llama-tiny fp32, sdpa attention) and length^2.00 (llama-tiny fp32, eager attention)"
    assert f"Between the two longest sequences it grows as {each}." in summary


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
