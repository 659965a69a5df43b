"""Every preset on the GPU in each quantization: training in each checkpointing mode, and inference.

As far as the GPU's memory goes; of what is larger, loading ends out of memory. That is with the first task that a
family's models can have; with the others a small preset of the family goes through the same, in bf16 and nf4.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import product
from threading import Condition
from typing import Any

import pytest
from machine import ROOM_GB, TOTAL_GB, at_once

from lorabench.case import Adapter, Case, Measure, TaskType
from lorabench.catalog import PRESETS
from lorabench.catalog.families import FAMILIES
from lorabench.environment import resolve_device
from lorabench.record import Record
from lorabench.runner import watch
from lorabench.runner.local import LocalLauncher
from lorabench.runner.run import run, run_with

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
SMALL_OF_FAMILY = {PRESETS[model].model_type: model for model in reversed(SMALL)}
LARGE = {
    "llama-2-7b": 6.7,
    "qwen2.5-7b": 7.6,
    "mistral-7b": 7.2,
    "llama-3-8b": 8.0,
    "llama-2-13b": 13.0,
    "llama-3-70b": 70.6,
}
"""Billions of parameters."""
NEEDED = {"fp32": (4, 5), "fp16": (2, 4), "bf16": (2, 4), "int8": (1.1, 4), "nf4": (0.6, 4)}
"""GB for a billion parameters, and for a process beside its weights: context, workspaces, logits, a weight in fp32."""
MEASURE = Measure(warmup=1, steps=1, timeout_s=120)
AT_ONCE = at_once(10, each_gb=7)
"""Small cases beside each other: none of their times is read, and bytes are each process's own."""


def small_case(model: str, task_type: TaskType | None = None, **settings: Any) -> Case:
    family = PRESETS[model].family
    adapter = Adapter(target_modules=family.query_value, task_type=task_type or family.task_types[0])
    defaults: dict[str, Any] = {"batch_size": 2, "sequence_length": 64, "new_tokens": 4, "int8_threshold": 0.0}
    return Case(
        **{"scenario": "presets", "model": model, "adapter": adapter, "measure": MEASURE, **defaults, **settings}
    )


def in_every_mode(model: str, quantization: str, task_type: TaskType | None = None) -> list[Case]:
    """Training with each kind of checkpointing, and inference."""
    trained = [{"task": "train", "gradient_checkpointing": checkpointing} for checkpointing in CHECKPOINTING]
    modes: list[dict[str, Any]] = [*trained, {"task": "infer"}]
    return [small_case(model, task_type, quantization=quantization, **mode) for mode in modes]


def cases() -> list[Case]:
    found = []
    for model in SMALL:
        for quantization in QUANTIZATIONS:
            found += in_every_mode(model, quantization)
    for family, model in SMALL_OF_FAMILY.items():
        for task_type, quantization in product(FAMILIES[family].task_types[1:], ("bf16", "nf4")):
            found += in_every_mode(model, quantization, task_type)
    return found


CASES = cases()


def weights_gb(model: str, quantization: str) -> float:
    return LARGE[model] * NEEDED[quantization][0]


def needed_gb(model: str, quantization: str) -> float:
    return weights_gb(model, quantization) + NEEDED[quantization][1]


def in_full(case: Case) -> bool:
    """Whether a large case goes through every pass of a run; the others go through those of bytes."""
    return case.quantization == "nf4" and case.gradient_checkpointing == "none"


ALL_LARGE_CASES = [
    case for model in LARGE for quantization in QUANTIZATIONS for case in in_every_mode(model, quantization)
]
# What is between the two would fit or not by a few GB.
LARGE_CASES = [case for case in ALL_LARGE_CASES if needed_gb(case.model, case.quantization) <= TOTAL_GB]
TOO_LARGE = [case for case in ALL_LARGE_CASES if weights_gb(case.model, case.quantization) > TOTAL_GB]


class Room:
    """The card's memory, for cases beside each other; whoever needs more has the card to itself."""

    def __init__(self, gb: float) -> None:
        self._gb = gb
        self._taken: list[float] = []
        self._changed = Condition()

    @contextmanager
    def taken(self, gb: float) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._taken or sum(self._taken) + gb <= self._gb)
            self._taken.append(gb)
        try:
            yield
        finally:
            with self._changed:
                self._taken.remove(gb)
                self._changed.notify_all()


def test_no_preset_is_left_out() -> None:
    assert {*SMALL, *LARGE} == PRESETS.keys()


def test_no_family_has_only_large_presets_but_mistral() -> None:
    """Its other tasks run cut down, on the CPU (tests/integration/test_workload_presets.py)."""
    assert FAMILIES.keys() - SMALL_OF_FAMILY.keys() == {"mistral"}


@pytest.fixture(scope="module")
def small_records() -> dict[str, Record]:
    def run_share(share: list[Case]) -> list[Record]:
        return list(run(share, device="cuda"))

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(AT_ONCE) as pool:
        # The other shares' cases stay on the GPU.
        patch.setattr(watch, "GONE_WITHIN_S", 0)
        shares = pool.map(run_share, [CASES[first::AT_ONCE] for first in range(AT_ONCE)])
        return {record.key: record for share in shares for record in share}


def run_share(share: list[Case]) -> list[Record]:
    target = resolve_device("cuda")
    with LocalLauncher(target, attribute=False) as launcher:
        found = [launcher.trace(case) for case in share if not in_full(case)]
        return found + list(run_with(launcher, [case for case in share if in_full(case)], device=target.device))


@cache
def large_records(model: str) -> dict[str, Record]:
    """The records of a large preset's cases: those of one quantization after each other, quantizations beside."""
    room = Room(ROOM_GB)

    def run_with_room(quantization: str) -> list[Record]:
        with room.taken(needed_gb(model, quantization)):
            return run_share([case for case in LARGE_CASES if (case.model, case.quantization) == (model, quantization)])

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor() as pool:
        patch.setattr(watch, "GONE_WITHIN_S", 0)
        return {record.key: record for records in pool.map(run_with_room, QUANTIZATIONS) for record in records}


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
def test_a_large_case_ends_well(case: Case) -> None:
    check_end(case, large_records(case.model)[case.key])


@pytest.mark.parametrize("case", CASES, ids=label)
def test_launch_overhead_is_told_of_a_small_cases_phases(case: Case, small_records: dict[str, Record]) -> None:
    check_launch_overhead(small_records[case.key])


@pytest.mark.parametrize("case", [case for case in LARGE_CASES if in_full(case)], ids=label)
def test_launch_overhead_is_told_of_a_large_cases_phases(case: Case) -> None:
    check_launch_overhead(large_records(case.model)[case.key])


@pytest.mark.skipif(not TOO_LARGE, reason="the card holds every preset")
def test_what_the_card_cannot_hold_is_out_of_memory_where_it_is_loaded() -> None:
    for record in run([case for case in TOO_LARGE if case.gradient_checkpointing == "none"], device="cuda"):
        assert record.status == "oom"
        assert record.error is not None
        assert record.error.phase == "load"
