"""Predictions of int8, nf4 and 8-bit AdamW against what an H100 measured (results/h100/truth.csv), byte for byte."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import pytest
from predicting import predict

from lorabench.case import Case
from lorabench.scenario import load_scenarios

ROOT = Path(__file__).parents[3]
QUICK = (
    "truth[quantization=int8,gradient_checkpointing=none]",
    "truth[quantization=nf4,gradient_checkpointing=none]",
    "truth[quantization=bf16,gradient_checkpointing=none,adapter.rank=64,optimizer=adamw-8bit]",
)
SLOW = (
    "truth[quantization=int8,gradient_checkpointing=non-reentrant]",
    "truth[quantization=int8,gradient_checkpointing=reentrant,kbit_preparation=true]",
    "truth[quantization=nf4,gradient_checkpointing=reentrant]",
    "truth[quantization=nf4,gradient_checkpointing=none,double_quantization=true,kbit_preparation=true]",
    "truth-infer[quantization=int8,adapter_state=unmerged]",
    "truth-infer[quantization=int8,adapter_state=merged]",
)


@cache
def cases() -> dict[str, Case]:
    paths = [ROOT / "tests" / "gpu" / name for name in ("truth.yaml", "truth-infer.yaml")]
    return {case.name: case for scenario in load_scenarios(paths, "cuda") for case in scenario.cases}


@cache
def truth() -> dict[tuple[str, str], int]:
    with (ROOT / "results" / "h100" / "truth.csv").open(encoding="utf-8") as file:
        return {(row["case"], row["quantity"]): int(row["plain_bytes"]) for row in csv.DictReader(file)}


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_bytes_are_those_of_an_h100(name: str) -> None:
    memory = predict(cases()[name])
    assert memory.static_bytes == truth()[name, "static_bytes"]
    assert memory.peak_allocated_bytes == truth()[name, "peak_allocated_bytes"]
    assert memory.peak_reserved_bytes is not None
    assert memory.peak_reserved_bytes >= truth()[name, "peak_allocated_bytes"]
