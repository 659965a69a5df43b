"""What people use instead of a prediction, beside what was measured: errors, and what has no estimate."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lorabench.analysis.estimates import METHODS, estimates, reasons, summarise, without_estimates
from lorabench.record import Memory, RecordDevice

CARD = "NVIDIA H100 80GB HBM3"
TOLD = {
    "accelerate_weights": {"peak_bytes": 500},
    "accelerate_training": {"peak_bytes": 2000},
    "memory_tracker": {"peak_bytes": 990},
    "arithmetic": {"peak_bytes": 750, "weights_bytes": 500},
}


@pytest.fixture
def pair(make_record):
    def make(told=TOLD, peak_bytes=1000, predicted_bytes=1001, **case):
        memory = Memory(400, peak_bytes - 400, peak_bytes)
        real = make_record(case=case, device=RecordDevice("cuda", CARD), memory=memory)
        observations = {} if told is None else {"estimates": told}
        guess = replace(memory, peak_allocated_bytes=predicted_bytes)
        device = RecordDevice("fake", CARD)
        return [real, replace(real, source="predicted", device=device, memory=guess, observations=observations)]

    return make


def test_errors_are_signed_shares_of_the_measured_peak(pair):
    found = estimates(pair())
    assert [one.method for one in found] == list(METHODS)
    assert [one.error for one in found] == pytest.approx([0.001, -0.5, 1.0, -0.01, -0.25])
    assert not any(one.absent for one in found)


def test_an_absent_estimate_has_its_reason_and_no_number(pair):
    told = {**TOLD, "accelerate_training": {"absent": "no number for training in int8"}}
    found = {one.method: one for one in estimates(pair(told, quantization="int8"))}
    absent = found["accelerate_training"]
    assert (absent.estimated_bytes, absent.error, absent.absent) == (None, None, "no number for training in int8")
    assert absent.quantized
    summary = {one.method: one for one in summarise(list(found.values()))}
    assert (summary["accelerate_training"].cases, summary["accelerate_training"].absent) == (0, 1)
    assert summary["accelerate_training"].median_error is None
    assert reasons(list(found.values())) == [("accelerate_training", "no number for training in int8", 1)]


@pytest.mark.parametrize("odd", [None, 7, [], {}, {"peak_bytes": 0}, {"peak_bytes": True}, {"peak_bytes": "much"}])
def test_what_is_no_number_of_bytes_is_absent(pair, odd):
    found = {one.method: one for one in estimates(pair({**TOLD, "arithmetic": odd}))}
    assert (found["arithmetic"].error, found["arithmetic"].absent) == (None, "the record does not say")


def test_cases_predicted_without_estimates_are_counted_and_not_shown(pair):
    records = pair() + pair(None, batch_size=2) + pair("nonsense", batch_size=3)
    assert len(estimates(records)) == len(METHODS)
    assert without_estimates(records) == 2
    assert estimates(pair(None)) == []


def test_a_summary_has_median_and_largest_of_absolute_errors_and_both_ends(pair):
    records = []
    for size, tracked in ((1, 900), (2, 1050), (3, 1010)):
        records += pair({**TOLD, "memory_tracker": {"peak_bytes": tracked}}, batch_size=size)
    summary = {one.method: one for one in summarise(estimates(records))}["memory_tracker"]
    assert (summary.cases, summary.absent) == (3, 0)
    assert (summary.median_error, summary.largest_error) == pytest.approx((0.05, 0.1))
    assert (summary.lowest, summary.highest) == pytest.approx((-0.1, 0.05))
