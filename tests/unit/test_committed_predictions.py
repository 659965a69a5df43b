"""What README says of predictions: committed predictions against the committed records of an H100."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from lorabench.analysis.predicted import Comparison, compare, summarise
from lorabench.results import read_results

H100 = Path(__file__).parents[2] / "results" / "h100"
KNOWN = {
    # results/h100/README.md says what is known of them.
    (
        "peak allocated",
        "accuracy[model=bert-base,quantization=fp16,gradient_checkpointing=none,"
        "adapter.task_type=TOKEN_CLS,adapter.target_modules=query+value,attention=eager]",
    ),
    ("peak reserved", "accuracy[model=opt-1.3b,quantization=nf4,gradient_checkpointing=none]"),
}


@pytest.fixture(scope="module")
def comparisons() -> list[Comparison]:
    return compare(read_results(*(H100 / f"{name}.jsonl" for name in ("scenarios", "accuracy", "predicted"))).records)


def test_all_that_was_measured_was_predicted(comparisons):
    assert len({one.measured.key for one in comparisons}) == 149


def test_no_prediction_is_farther_off_than_it_may_be_but_those_with_a_cause(comparisons):
    assert {(one.quantity, one.measured.name) for one in comparisons if not one.within} == KNOWN


def test_static_memory_is_exact_and_the_medians_are_too(comparisons):
    for one in summarise(comparisons):
        assert one.median_error == 0
        if one.quantity == "static":
            assert one.largest_error == 0


def test_exact_to_the_byte_as_often_as_the_readme_says(comparisons):
    exact = Counter((one.quantized, one.quantity) for one in comparisons if one.error_bytes == 0)
    assert exact == {
        (False, "static"): 95,
        (False, "peak allocated"): 91,
        (False, "peak reserved"): 89,
        (True, "static"): 54,
        (True, "peak allocated"): 50,
        (True, "peak reserved"): 43,
    }
