"""Predicted beside measured: which records meet, and how far off is too far."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lorabench.analysis.predicted import compare, summarise
from lorabench.record import Memory, RecordDevice

CARD = "NVIDIA H100 80GB HBM3"
MEASURED, PREDICTED = RecordDevice("cuda", CARD), RecordDevice("fake", CARD)


@pytest.fixture
def pair(make_record):
    """A measured and a predicted record of one case, with static, peak allocated and peak reserved bytes."""

    def make(measured, predicted, **case):
        real = make_record(case=case, device=MEASURED, memory=memory(*measured))
        return [real, replace(real, source="predicted", device=PREDICTED, memory=memory(*predicted))]

    return make


def memory(static_bytes, peak_bytes, reserved_bytes):
    return Memory(static_bytes, peak_bytes - static_bytes, peak_bytes, reserved_bytes)


def test_errors_are_signed_shares_of_what_was_measured(pair):
    found = compare(pair((1000, 2000, 4000), (1000, 1990, 4400)))
    assert [(one.quantity, one.error_bytes, one.error) for one in found] == [
        ("static", 0, 0.0),
        ("peak allocated", -10, -0.005),
        ("peak reserved", 400, 0.1),
    ]


@pytest.mark.parametrize(
    ("quantization", "off", "within"),
    [
        ("bf16", (0, 1000, 20_000), [True, True, True]),
        ("fp32", (1, 1001, 20_001), [False, False, False]),
        ("int8", (10_000, 10_000, 50_000), [True, True, True]),
        ("nf4", (-10_001, -10_001, -50_001), [False, False, False]),
    ],
)
def test_quantized_cases_have_wider_limits(pair, quantization, off, within):
    real = (1_000_000, 1_000_000, 1_000_000)
    predicted = tuple(bytes_ + more for bytes_, more in zip(real, off, strict=True))
    assert [one.within for one in compare(pair(real, predicted, quantization=quantization))] == within


def test_only_the_same_case_on_the_same_card_meets(pair):
    measured, predicted = pair((10, 20, 40), (10, 20, 40))
    other_card = replace(predicted, device=RecordDevice("fake", "NVIDIA L4"))
    assert compare([measured, other_card]) == []
    assert compare([measured, replace(predicted, key="another")]) == []
    assert compare([measured, replace(predicted, seed=7)]) == []
    assert compare([measured, replace(predicted, status="failed")]) == []
    assert compare([measured, replace(measured, source="measured")]) == []
    assert compare([replace(measured, device=RecordDevice("cpu", CARD)), predicted]) == []
    assert len(compare([measured, predicted])) == 3


def test_the_last_record_of_a_case_counts_and_numbers_that_are_absent_do_not(pair):
    measured, predicted = pair((10, 20, 40), (10, 20, 40))
    newer = replace(predicted, memory=replace(predicted.memory, peak_allocated_bytes=22, peak_reserved_bytes=None))
    assert [(one.quantity, one.error_bytes) for one in compare([measured, predicted, newer])] == [
        ("static", 0),
        ("peak allocated", 2),
    ]


def test_summary_has_median_and_largest_for_dense_and_quantized_apart(pair):
    records = []
    for size, off in ((1, 0), (2, -100), (3, 3000)):
        records += pair((10, 1_000_000, 40), (10, 1_000_000 + off, 40), batch_size=size)
    records += pair((10, 1_000_000, 40), (10, 1_008_000, 40), quantization="int8")
    peaks = {one.quantized: one for one in summarise(compare(records)) if one.quantity == "peak allocated"}
    dense, quantized = peaks[False], peaks[True]
    assert (dense.cases, dense.within, dense.median_error, dense.largest_error) == (3, 2, 0.0001, 0.003)
    assert (quantized.cases, quantized.within, quantized.largest_error) == (1, 1, 0.008)
