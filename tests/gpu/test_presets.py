"""Every preset up to 1.3B on the GPU, whole: each quantization, training in each checkpointing mode, and inference.

The larger ones are of the same families; one case each of them shows that it is built, trains and infers.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lorabench.case import Adapter, Case, Measure
from lorabench.catalog import PRESETS
from lorabench.record import Record
from lorabench.runner import watch
from lorabench.runner.run import run

pytestmark = pytest.mark.gpu

QUANTIZATIONS = ("fp32", "fp16", "bf16", "int8", "nf4")
CHECKPOINTING = ("none", "reentrant", "non-reentrant")
SMALL = (
    "llama-tiny",
    "llama-mini",
    "opt-tiny",
    "llama-3.2-1b",
    "qwen2.5-0.5b",
    "opt-125m",
    "opt-1.3b",
    "gpt2",
    "gpt2-medium",
    "t5-small",
    "bert-base",
    "smollm2-135m",
)
LARGE = {
    "llama-2-7b": "bf16",
    "llama-2-13b": "int8",
    "llama-3-8b": "nf4",
    "llama-3-70b": "nf4",
    "qwen2.5-7b": "int8",
    "mistral-7b": "fp16",
}
MEASURE = Measure(warmup=1, steps=1, timeout_s=120)
AT_ONCE = 10
"""Cases beside each other: none of their times is read, and bytes are each process's own."""


def small_case(model: str, task_type: str | None = None, **settings: Any) -> Case:
    family = PRESETS[model].family
    adapter = Adapter(target_modules=family.query_value, task_type=task_type or family.task_types[0])  # type: ignore[arg-type]
    defaults: dict[str, Any] = {"batch_size": 2, "sequence_length": 64, "new_tokens": 4, "int8_threshold": 0.0}
    return Case(
        **{"scenario": "presets", "model": model, "adapter": adapter, "measure": MEASURE, **defaults, **settings}
    )


def cases() -> list[Case]:
    found = []
    for model in SMALL:
        for quantization in QUANTIZATIONS:
            found += [
                small_case(model, task="train", quantization=quantization, gradient_checkpointing=checkpointing)
                for checkpointing in CHECKPOINTING
            ]
            found += [small_case(model, task="infer", quantization=quantization)]
    found += [
        small_case("bert-base", task_type, task="train", quantization="bf16")
        for task_type in ("TOKEN_CLS", "FEATURE_EXTRACTION")
    ]
    return found


CASES = cases()
LARGE_CASES = [
    small_case(model, task=task, quantization=quantization)
    for model, quantization in LARGE.items()
    for task in ("train", "infer")
]


def test_no_preset_is_left_out() -> None:
    assert {*SMALL, *LARGE} == PRESETS.keys()


@pytest.fixture(scope="module")
def small_records() -> dict[str, Record]:
    def run_share(share: list[Case]) -> list[Record]:
        return list(run(share, device="cuda"))

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(AT_ONCE) as pool:
        # The other shares' cases stay on the GPU.
        patch.setattr(watch, "GONE_WITHIN_S", 0)
        shares = pool.map(run_share, [CASES[first::AT_ONCE] for first in range(AT_ONCE)])
        return {record.key: record for share in shares for record in share}


@pytest.fixture(scope="module")
def large_records() -> dict[str, Record]:
    # One by one: loading 70B in nf4 alone takes most of the card.
    return {record.key: record for record in run(LARGE_CASES, device="cuda")}


def label(case: Case) -> str:
    assert case.adapter is not None
    parts = (case.model, case.task, case.quantization, case.gradient_checkpointing, case.adapter.task_type)
    return "-".join(parts)


def check_end(case: Case, record: Record) -> None:
    assert record.status == "ok", record.error
    assert record.proof is not None
    assert record.proof.quantization_backend == ("cuda" if case.quantization in ("int8", "nf4") else None)


def check_launch_overhead(record: Record) -> None:
    shares = record.observations["launch_bound"]
    assert shares.keys() == record.latency.keys()
    for share in shares.values():
        assert 0 < share["gpu_busy_share"] <= 1
        assert share["launch_bound_share"] == pytest.approx(1 - share["gpu_busy_share"])


@pytest.mark.parametrize("case", CASES, ids=label)
def test_a_small_case_ends_well(case: Case, small_records: dict[str, Record]) -> None:
    check_end(case, small_records[case.key])


@pytest.mark.parametrize("case", LARGE_CASES, ids=label)
def test_a_large_case_ends_well(case: Case, large_records: dict[str, Record]) -> None:
    check_end(case, large_records[case.key])


@pytest.mark.parametrize("case", CASES, ids=label)
def test_launch_overhead_is_told_of_a_small_cases_phases(case: Case, small_records: dict[str, Record]) -> None:
    check_launch_overhead(small_records[case.key])


@pytest.mark.parametrize("case", LARGE_CASES, ids=label)
def test_launch_overhead_is_told_of_a_large_cases_phases(case: Case, large_records: dict[str, Record]) -> None:
    check_launch_overhead(large_records[case.key])
