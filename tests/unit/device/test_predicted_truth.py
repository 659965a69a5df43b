"""Predictions against the committed measurements of an H100, to the byte."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import pytest
from predicting import predict

from lorabench.case import Case
from lorabench.scenario import load_scenarios

ROOT = Path(__file__).parents[3]
QUICK = (
    "truth[quantization=bf16,gradient_checkpointing=none,model=gpt2]",
    "truth[quantization=fp16,gradient_checkpointing=non-reentrant,model=opt-125m]",
    "truth[quantization=bf16,gradient_checkpointing=none,adapter.dropout=0.1]",
    "truth-infer[quantization=bf16,adapter_state=merged]",
)


def measured() -> dict[str, dict[str, int]]:
    """By a case's name, bytes by quantity, of code that a user writes by hand."""
    found: dict[str, dict[str, int]] = {}
    with (ROOT / "results/h100/truth.csv").open() as file:
        for row in csv.DictReader(file):
            found.setdefault(row["case"], {})[row["quantity"]] = int(row["plain_bytes"])
    return found


def dense_cases() -> Mapping[str, Case]:
    paths = [ROOT / "tests/gpu/truth.yaml", ROOT / "tests/gpu/truth-infer.yaml"]
    cases = [case for scenario in load_scenarios(paths, "cuda") for case in scenario.cases]
    return {
        case.name: case
        for case in cases
        if case.quantization in ("fp32", "fp16", "bf16") and case.optimizer != "adamw-8bit"
    }


MEASURED, CASES = measured(), dense_cases()


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_a_dense_case_is_predicted_to_the_byte(name: str) -> None:
    memory = predict(CASES[name])
    assert memory.static_bytes == MEASURED[name]["static_bytes"]
    assert memory.peak_allocated_bytes == MEASURED[name]["peak_allocated_bytes"]


def test_the_quick_cases_are_in_the_table() -> None:
    assert set(QUICK) <= CASES.keys() & MEASURED.keys()
