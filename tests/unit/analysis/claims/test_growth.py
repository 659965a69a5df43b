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


def models(make_record, dynamic=(10, 30), names=("llama-tiny", "llama-mini"), **case):
    return [
        training(make_record, **{"model": model, "sequence_length": 64, "dynamic": nbytes * MIB, **case})
        for model, nbytes in zip(names, dynamic, strict=True)
    ]


def of_models(finding):
    """Each series' dynamic MiB."""
    found = {}
    for row in finding.rows:
        if row["series"].startswith("models, "):
            found.setdefault(row["series"], []).append(row["dynamic MiB"])
    return found


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
    records = [
        *models(make_record, (10, 20, 30), ("llama-tiny", "llama-mini", "smollm2-135m")),
        *models(make_record, (10, 20), gradient_checkpointing="reentrant"),
        *models(make_record, (20, 10), gradient_checkpointing="reentrant", quantization="nf4"),
    ]
    finding = DYNAMIC_FOLLOWS_BATCH.test(evidence(*batches(make_record, STRAIGHT), *records))
    assert finding.condition == (
        "with the batch size (llama-tiny fp32) and model size without checkpointing; not with model size with "
        "reentrant checkpointing"
    )
    assert (
        "it grows at every size in 1 of 1 series without checkpointing (2 pairs of neighbours in the family llama, "
        "llama-tiny and llama-mini in 1 of the series; smollm2-135m takes 3 times what llama-tiny does"
    ) in finding.summary
    assert (
        "and in 1 of 2 series with reentrant checkpointing (one pair of models; llama-mini takes 0.5 times what"
    ) in finding.summary
    assert of_models(finding) == {
        "models, llama fp32": [10, 20, 30],
        "models, llama nf4, reentrant": [20, 10],
        "models, llama fp32, reentrant": [10, 20],
    }
    assert finding.drawn == ("batch size, llama-tiny fp32", "models, llama fp32", "models, llama nf4, reentrant")


def test_a_longer_series_hides_none_that_does_not_grow(make_record):
    longer = models(make_record, (10, 20, 30), ("llama-tiny", "llama-mini", "smollm2-135m"))
    records = [*batches(make_record, STRAIGHT), *longer, *models(make_record, (20, 10), optimizer="sgd")]
    finding = DYNAMIC_FOLLOWS_BATCH.test(evidence(*records))
    assert finding.condition == "with the batch size (llama-tiny fp32); not with model size without checkpointing"
    assert "in 1 of 2 series" in finding.summary
    assert "; llama-mini takes 0.5 times" in finding.summary


@pytest.mark.parametrize("dynamic", [(10, 30), (30, 10)])
def test_outliers_of_random_weights_neither_hold_nor_fail(make_record, dynamic):
    by_chance = {"quantization": "int8", "int8_threshold": 6.0}
    honest = [*batches(make_record, STRAIGHT), *models(make_record)]
    expected = DYNAMIC_FOLLOWS_BATCH.test(evidence(*honest))
    more = [
        *models(make_record, dynamic, **by_chance),
        *models(make_record, dynamic, gradient_checkpointing="reentrant", **by_chance),
        *batches(make_record, CURVED, **by_chance),
        *(training(make_record, sequence_length=length, **by_chance) for length in (256, 1024)),
    ]
    assert DYNAMIC_FOLLOWS_BATCH.test(evidence(*honest, *more)) == expected
    alone = DYNAMIC_FOLLOWS_BATCH.test(evidence(*more))
    assert (alone.verdict, alone.evidence) == ("not tested", ())


@pytest.mark.parametrize("case", [{"int8_threshold": 0.0}, {"int8_threshold": 6.0, "weights": "pretrained"}])
def test_int8_decides_where_its_outliers_are_no_accident(make_record, case):
    records = [*batches(make_record, STRAIGHT), *models(make_record, (30, 10), quantization="int8", **case)]
    finding = DYNAMIC_FOLLOWS_BATCH.test(evidence(*records))
    assert "in 0 of 1 series without checkpointing" in finding.summary


def test_series_of_the_very_same_bytes_count_once(make_record):
    alike = [model for cache in (True, False) for model in models(make_record, use_cache=cache)]
    alike += models(make_record, quantization="nf4")
    lines, other = batches(make_record, STRAIGHT), models(make_record, (10, 31), attention="eager")
    finding = DYNAMIC_FOLLOWS_BATCH.test(evidence(*lines, *alike, *other))
    assert "in 2 of 2 series without checkpointing (one pair of models; " in finding.summary
    assert of_models(finding) == {"models, llama fp32": [10, 30], "models, llama fp32 attention=eager": [10, 31]}
    assert [row["series alike"] for row in finding.rows if row["series alike"]] == [3, 3, 1, 1]
    # They were looked at, too.
    assert finding.n == len(finding.evidence) == len(lines + alike + other)


def test_families_and_pairs_of_models_are_counted_and_every_series_is_in_the_table(make_record):
    settings = [{}, {"optimizer": "sgd"}, {"padding": 0.5}, {"sequence_length": 128}, {"adapter": {"alpha": 8.0}}]
    records = [
        *batches(make_record, STRAIGHT),
        *(one for more, case in enumerate(settings) for one in models(make_record, (10, 30 + more), **case)),
        *models(make_record, (10, 20, 40), ("llama-tiny", "llama-mini", "smollm2-135m"), quantization="fp16"),
        *models(make_record, (10, 20), ("qwen2.5-0.5b", "qwen2.5-7b")),
    ]
    finding = DYNAMIC_FOLLOWS_BATCH.test(evidence(*records))
    assert (
        "in 7 of 7 series without checkpointing (3 pairs of neighbours in the families llama and qwen2, llama-tiny and "
        "llama-mini in 6 of the series; smollm2-135m takes 4 times what llama-tiny does"
    ) in finding.summary
    assert of_models(finding) == {
        "models, llama fp16": [10, 20, 40],
        "models, llama fp32": [10, 30],
        "models, llama fp32 sgd": [10, 31],
        "models, llama fp32 padding=0.5": [10, 32],
        "models, llama fp32 sequence_length=128": [10, 33],
        "models, llama fp32 alpha=8": [10, 34],
        "models, qwen2 fp32": [10, 20],
    }
    assert finding.drawn == ("batch size, llama-tiny fp32", "models, llama fp16")


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
