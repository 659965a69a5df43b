"""What README says of predictions: committed predictions against the committed records of an H100."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from lorabench.analysis.predicted import Comparison, compare, summarise
from lorabench.results import read_results

H100 = Path(__file__).parents[2] / "results" / "h100"
MEASURED = ("scenarios", "accuracy", "llama-2-7b")


@pytest.fixture(scope="module")
def comparisons() -> list[Comparison]:
    return compare(read_results(*(H100 / f"{name}.jsonl" for name in (*MEASURED, "predicted"))).records)


def test_all_that_was_measured_was_predicted(comparisons):
    assert len({one.measured.key for one in comparisons}) == 202


def test_no_prediction_is_farther_off_than_it_may_be(comparisons):
    assert [(one.quantity, one.measured.name) for one in comparisons if not one.within] == []


def test_static_memory_is_exact_and_the_medians_are_too(comparisons):
    for one in summarise(comparisons):
        assert one.median_error == 0
        if one.quantity == "static":
            assert one.largest_error == 0


def test_exact_to_the_byte_as_often_as_the_readme_says(comparisons):
    exact = Counter((one.quantized, one.quantity) for one in comparisons if one.error_bytes == 0)
    assert exact == {
        (False, "static"): 131,
        (False, "peak allocated"): 131,
        (False, "peak reserved"): 129,
        (True, "static"): 71,
        (True, "peak allocated"): 63,
        (True, "peak reserved"): 59,
    }
