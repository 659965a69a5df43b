"""What README says of predictions: committed predictions against the committed records of two GPUs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from lorabench.analysis.predicted import Comparison, compare, summarise
from lorabench.results import read_results

RESULTS = Path(__file__).parents[2] / "results"
MEASURED = {"h100": ("scenarios", "accuracy", "llama-2-7b"), "h200": ("scenarios", "large", "learning")}
EXACT = {
    "h100": {
        (False, "static"): (131, 131),
        (False, "peak allocated"): (131, 131),
        (False, "peak reserved"): (129, 131),
        (True, "static"): (71, 71),
        (True, "peak allocated"): (63, 71),
        (True, "peak reserved"): (59, 71),
    },
    "h200": {
        (False, "static"): (56, 56),
        (False, "peak allocated"): (56, 56),
        (False, "peak reserved"): (43, 56),
        (True, "static"): (32, 32),
        (True, "peak allocated"): (11, 32),
        (True, "peak reserved"): (31, 32),
    },
}
"""By whether it is quantized and by quantity: how many to the byte, of how many."""


@pytest.fixture(scope="module", params=MEASURED)
def gpu(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def comparisons(gpu: str) -> list[Comparison]:
    return compare(read_results(*(RESULTS / gpu / f"{name}.jsonl" for name in (*MEASURED[gpu], "predicted"))).records)


def test_all_that_was_measured_was_predicted(gpu, comparisons):
    measured = read_results(*(RESULTS / gpu / f"{name}.jsonl" for name in MEASURED[gpu])).records
    ended_well = {record.key for record in measured if record.status == "ok" and record.case["task"] != "lifecycle"}
    assert {one.measured.key for one in comparisons} == ended_well


def test_no_prediction_is_farther_off_than_it_may_be(comparisons):
    assert [(one.quantity, one.measured.name) for one in comparisons if not one.within] == []


def test_static_memory_is_exact_and_half_of_all_errors_are_next_to_nothing(comparisons):
    for one in summarise(comparisons):
        assert one.median_error < 1e-4
        if one.quantity == "static":
            assert one.largest_error == 0


def test_exact_to_the_byte_as_often_as_the_readme_says(gpu, comparisons):
    cases = Counter((one.quantized, one.quantity) for one in comparisons)
    exact = Counter((one.quantized, one.quantity) for one in comparisons if one.error_bytes == 0)
    assert {kind: (exact[kind], cases[kind]) for kind in cases} == EXACT[gpu]


def test_two_gpus_take_the_same_bytes():
    """As results/h200/README.md has it: what differs are peaks of int8 at threshold 6, which follow values."""
    first, second = (
        {
            record.key: record
            for name in MEASURED[gpu]
            if name != "accuracy"
            for record in read_results(RESULTS / gpu / f"{name}.jsonl").records
        }
        for gpu in MEASURED
    )
    common = first.keys() & second.keys()
    assert len(common) == 33
    for quantity, others in {"static_bytes": 0, "peak_reserved_bytes": 0, "peak_allocated_bytes": 3}.items():
        different = [
            second[key]
            for key in common
            if getattr(first[key].memory, quantity) != getattr(second[key].memory, quantity)
        ]
        assert len(different) == others
        assert all(record.case["int8_threshold"] == 6.0 for record in different)
        assert all(record.case["quantization"] == "int8" for record in different)
