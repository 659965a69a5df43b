"""The claim on disabling comes out every way that records can say."""

from __future__ import annotations

import pytest
from lives import evidence, life, timing

from lorabench.analysis.claims.disabling import ADAPTERS_DISABLE

BIASED = {"disable.equal_inside": False, "disable.max_abs_inside": 0.24, "disable.merged_equal_inside": False}
ROUNDED = {"disable.merged_equal_inside": False, "disable.merged_max_abs_inside": 0.0117}


def disable(*records):
    return ADAPTERS_DISABLE.test(evidence(*records))


def test_a_base_that_comes_back_each_time_supports(make_record):
    finding = disable(life(make_record), life(make_record, quantization="int8"))
    # Each case is disabled twice, unmerged and merged.
    assert (finding.verdict, finding.effect, finding.n) == ("supported", 0.0, 4)


def test_a_base_that_never_comes_back_refutes(make_record):
    finding = disable(life(make_record, BIASED))
    assert (finding.verdict, finding.effect) == ("refuted", 0.24)


def test_an_adapter_that_does_not_come_back_refutes_the_unmerged_part(make_record):
    finding = disable(life(make_record, {"disable.equal_after": False}))
    assert (finding.verdict, finding.condition) == ("conditional", "while merged; not while unmerged")


def test_trained_biases_and_merged_bf16_are_the_conditions(make_record):
    finding = disable(
        life(make_record),
        life(make_record, ROUNDED, quantization="bf16"),
        life(make_record, BIASED, adapter={"bias": "all"}),
    )
    assert finding.verdict == "conditional"
    assert finding.condition == "with bias none; not with bias all, nor while merged under bf16"


def test_merging_that_rounds_in_every_dtype_is_one_condition(make_record):
    finding = disable(life(make_record, ROUNDED), life(make_record, ROUNDED, quantization="bf16"))
    assert (finding.verdict, finding.condition) == ("conditional", "while unmerged; not while merged")
    assert finding.effect == 0.0117


def test_times_are_told_and_decide_nothing(make_record):
    slow = life(make_record)
    # Pair by pair, in whatever order the pairs came.
    slow.latency["disabled_forward"] = timing(*(2 * seconds for seconds in slow.latency["base_forward"].samples_s))
    finding = disable(slow)
    assert finding.verdict == "supported"
    assert "A forward pass inside took 2 times the base's" in finding.summary


def test_the_ratio_that_is_told_is_in_the_table(make_record):
    """It is that of the pairs: the two medians are equal here."""
    drifting = life(make_record)
    drifting.latency["base_forward"] = timing(0.010, 0.012, 0.030, 0.040)
    drifting.latency["disabled_forward"] = timing(0.011, 0.0144, 0.030, 0.044)
    alone = life(make_record, quantization="bf16")
    alone.latency["base_forward"] = timing(0.010)
    finding = disable(drifting, alone)
    first, second = finding.rows
    assert first["disabled forward ms"] == first["base forward ms"]
    assert first["ratio"] == pytest.approx((1.1 * 1.2 * 1.0 * 1.1) ** 0.25)
    assert first["low"] < first["ratio"] < first["high"]
    assert "A forward pass inside took 1.1 times the base's" in finding.summary
    assert (second["ratio"], second["low"], second["high"]) == (None, None, None)


def test_disabling_is_not_tested_without_a_case_of_no_biases(make_record):
    for records in (
        [],
        [life(make_record, {"disable": None})],
        [life(make_record, {"disable.equal_after": None})],
        [life(make_record, BIASED, adapter={"bias": "all"})],
    ):
        assert disable(*records).verdict == "not tested"
