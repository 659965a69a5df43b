"""What is predicted here and now, with this machine's libraries, against committed measurements of an H100."""

from __future__ import annotations

from pathlib import Path

import pytest

import lorabench
from lorabench.analysis.predicted import Comparison, compare
from lorabench.case import case_from_dict
from lorabench.record import Record
from lorabench.results import read_results

MEASURED = Path(__file__).parents[2] / "results" / "h100" / "accuracy.jsonl"
# Quick ones that differ in all that matters: family, precision, checkpointing, attention, optimizer, task.
NAMES = (
    "accuracy[model=gpt2-medium,quantization=nf4,gradient_checkpointing=reentrant]",
    "accuracy[model=qwen2.5-0.5b,quantization=int8,gradient_checkpointing=non-reentrant]",
    "accuracy[model=opt-1.3b,quantization=fp16,gradient_checkpointing=non-reentrant]",
    "accuracy[model=llama-3.2-1b,quantization=fp32,gradient_checkpointing=reentrant,autocast=true]",
    "accuracy[model=llama-3.2-1b,quantization=bf16,gradient_checkpointing=reentrant,attention=eager,sequence_length=4096,"
    "batch_size=1]",
    "accuracy[model=bert-base,quantization=bf16,gradient_checkpointing=none,adapter.task_type=SEQ_CLS,"
    "adapter.target_modules=query+value]",
    "accuracy-infer[quantization=nf4,adapter_state=unmerged,model=qwen2.5-0.5b,batch_size=16]",
)


@pytest.fixture(scope="module")
def comparisons() -> list[Comparison]:
    measured: dict[str, Record] = {record.name: record for record in read_results(MEASURED).records}
    cases = [case_from_dict(measured[name].case) for name in NAMES]
    predicted = lorabench.predict(cases)
    assert [record.error for record in predicted if record.status != "ok"] == []
    return compare([*(measured[name] for name in NAMES), *predicted])


def test_every_case_was_compared(comparisons: list[Comparison]) -> None:
    assert {one.measured.name for one in comparisons} == set(NAMES)


def test_static_and_peak_are_exact(comparisons: list[Comparison]) -> None:
    off = {(one.measured.name, one.quantity): one.error_bytes for one in comparisons if one.error_bytes}
    assert {quantity for _, quantity in off} <= {"peak reserved"}, off


def test_reserved_memory_is_within_its_limit(comparisons: list[Comparison]) -> None:
    assert [(one.measured.name, one.error) for one in comparisons if not one.within] == []
