from __future__ import annotations

from dataclasses import replace

import pytest
from lives import evidence
from trainings import MIB, training

from lorabench.analysis.claims.checkpointing import CHECKPOINTING_CUTS_DYNAMIC

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
    # All cut alike: there is no best and no worst.
    assert finding.summary.count("0.400") == 1


def test_the_best_and_the_worst_are_told(make_record):
    records = [*modes(make_record, quantization="bf16"), *modes(make_record, (100, 60, 60), quantization="nf4")]
    summary = CHECKPOINTING_CUTS_DYNAMIC.test(evidence(*records)).summary
    assert summary.startswith("Dynamic memory falls to 0.400 of what it is without (bf16 ")
    assert " at best and to 0.600 (nf4 " in summary


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


def test_training_all_weights_is_told_and_decides_nothing(make_record):
    whole = [replace(one, case={**one.case, "adapter": None}) for one in modes(make_record, (100, 100, 96))]
    finding = CHECKPOINTING_CUTS_DYNAMIC.test(evidence(*modes(make_record), *whole))
    assert (finding.verdict, finding.n) == ("supported", 2)
    assert [row["trained"] for row in finding.rows if not row["decides"]] == ["all weights"] * 2
    assert "With all weights trained it falls to 0.960 (" in finding.summary
    assert "1.000 (" in finding.summary
    assert CHECKPOINTING_CUTS_DYNAMIC.test(evidence(*whole)).verdict == "not tested"
