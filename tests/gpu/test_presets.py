"""The real presets up to 1.3B on the GPU: each trains and infers in every quantization and checkpointing mode."""

from __future__ import annotations

from typing import Any

import pytest

from lorabench.case import Adapter, Case, Measure
from lorabench.catalog import PRESETS
from lorabench.record import Record
from lorabench.runner.run import run

pytestmark = pytest.mark.gpu

CHECKPOINTING = ("none", "reentrant", "non-reentrant")
MEASURE = Measure(warmup=1, steps=1, timeout_s=120)
ALL = ("fp32", "fp16", "bf16", "int8", "nf4")
# Between them, every preset meets every checkpointing mode with each way of quantizing.
TRAINING: dict[str, tuple[str, ...]] = {
    "gpt2": ("bf16", "int8", "nf4"),
    "t5-small": ("bf16", "int8"),
    "bert-base": ("fp16", "nf4"),
    "qwen2.5-0.5b": ("bf16", "int8"),
    "opt-125m": ("nf4",),
}


def small_case(model: str, task_type: str | None = None, **settings: Any) -> Case:
    family = PRESETS[model].family
    adapter = Adapter(target_modules=family.query_value, task_type=task_type or family.task_types[0])  # type: ignore[arg-type]
    defaults: dict[str, Any] = {"batch_size": 2, "sequence_length": 64, "new_tokens": 4, "int8_threshold": 0.0}
    return Case(
        **{"scenario": "presets", "model": model, "adapter": adapter, "measure": MEASURE, **defaults, **settings}
    )


def cases() -> list[Case]:
    found = [
        small_case(model, task="train", quantization=quantization, gradient_checkpointing=checkpointing)
        for model, quantizations in TRAINING.items()
        for quantization in quantizations
        for checkpointing in CHECKPOINTING
    ]
    found += [small_case("opt-125m", task="train", quantization=quantization) for quantization in ALL[:4]]
    found += [
        small_case("llama-3.2-1b", task="train", quantization=quantization, gradient_checkpointing="non-reentrant")
        for quantization in ("bf16", "int8", "nf4")
    ]
    found += [small_case("opt-1.3b", task="train", quantization="bf16")]
    found += [
        small_case("bert-base", task_type, task="train", quantization="bf16")
        for task_type in ("TOKEN_CLS", "FEATURE_EXTRACTION")
    ]
    found += [
        small_case(model, task="infer", quantization=quantization)
        for model, quantization in (
            ("gpt2", "int8"),
            ("opt-125m", "nf4"),
            ("t5-small", "fp16"),
            ("bert-base", "bf16"),
            ("qwen2.5-0.5b", "nf4"),
        )
    ]
    return found


CASES = cases()


@pytest.fixture(scope="module")
def records() -> dict[str, Record]:
    return {record.key: record for record in run(CASES, device="cuda")}


def label(case: Case) -> str:
    assert case.adapter is not None
    parts = (case.model, case.task, case.quantization, case.gradient_checkpointing, case.adapter.task_type)
    return "-".join(parts)


@pytest.mark.parametrize("case", CASES, ids=label)
def test_the_case_ends_well(case: Case, records: dict[str, Record]) -> None:
    record = records[case.key]
    assert record.status == "ok", record.error
    assert record.proof is not None
    assert record.proof.quantization_backend == ("cuda" if case.quantization in ("int8", "nf4") else None)


@pytest.mark.parametrize("case", CASES, ids=label)
def test_launch_overhead_is_told_of_each_timed_phase(case: Case, records: dict[str, Record]) -> None:
    record = records[case.key]
    shares = record.observations["launch_bound"]
    assert shares.keys() == record.latency.keys()
    for share in shares.values():
        assert 0 < share["gpu_busy_share"] <= 1
        assert share["launch_bound_share"] == pytest.approx(1 - share["gpu_busy_share"])
