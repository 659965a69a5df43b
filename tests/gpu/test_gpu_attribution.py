"""On a GPU every byte that the allocator counts at the peak has a category."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from lorabench.case import Adapter, Case
from lorabench.device.allocator import MIB
from lorabench.environment import resolve_device
from lorabench.record import Record
from lorabench.runner.trace import trace

pytestmark = pytest.mark.gpu

MODEL = "llama-3.2-1b"
CASES = {
    "dense": {},
    "reentrant": {"gradient_checkpointing": "reentrant"},
    "non-reentrant": {"gradient_checkpointing": "non-reentrant"},
    "int8": {"quantization": "int8", "int8_threshold": 0.0},
    "int8-outliers": {"quantization": "int8", "gradient_checkpointing": "non-reentrant"},
    "nf4": {"quantization": "nf4", "optimizer": "adamw-8bit", "adapter": Adapter(rank=64)},
    "eager": {"attention": "eager", "sequence_length": 1024},
    "autocast": {"quantization": "fp32", "autocast": True},
    "opt": {"model": "opt-125m"},
    "inference": {"task": "infer", "new_tokens": 8},
}


def traced(name: str) -> Record:
    settings = {"task": "train", "model": MODEL, "batch_size": 2, **CASES[name]}
    record = trace(Case(scenario=name, **settings), resolve_device("cuda"))  # type: ignore[arg-type]
    assert record.status == "ok", record.error
    return record


@pytest.mark.parametrize("name", CASES)
def test_categories_add_up_to_the_allocators_peak(name: str) -> None:
    record = traced(name)
    memory = record.memory
    assert memory is not None
    assert memory.unattributed_bytes is not None
    assert sum(memory.categories.values()) + memory.unattributed_bytes == memory.peak_allocated_bytes
    assert abs(memory.unattributed_bytes) < 0.005 * memory.peak_allocated_bytes
    assert memory.categories["library_workspaces"] >= 8 * MIB
    if name in ("dense", "reentrant", "non-reentrant"):
        # Bytes that repeat to the byte from step to step: this pass's peak is the memory pass's.
        assert record.observations["attribution"]["peak"]["bytes"] == memory.peak_allocated_bytes
        assert memory.unattributed_bytes == 0


def test_a_snapshot_can_be_read_again(tmp_path: Path) -> None:
    file = tmp_path / "snapshot.pickle"
    case = Case("snapshot", "train", MODEL)
    assert trace(case, resolve_device("cuda"), snapshot=file).status == "ok"
    with file.open("rb") as stream:
        found = pickle.load(stream)
    assert {event["action"] for event in found["device_traces"][0]} >= {"alloc", "free_completed"}
