"""Shared by all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from lorabench.case import Adapter, Case
from lorabench.environment import Environment, EnvironmentDevice
from lorabench.record import Memory, PhaseMemory, Proof, Record, RecordDevice, RecordError, Timing

# Before any test imports a hub client: tests use what is installed and never the network.
os.environ["HF_HUB_OFFLINE"] = "1"
# A shell starts background jobs with Ctrl-C ignored, and children would inherit it: tests of Ctrl-C need it.
signal.signal(signal.SIGINT, signal.default_int_handler)
if "PYTEST_XDIST_WORKER" in os.environ:
    # Each worker is a core's; torch's idle threads spin, and would take the others' cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

MIB = 2**20

TESTS = Path(__file__).parent
NEED_A_GPU = frozenset(
    {
        *TESTS.glob("gpu/test_*.py"),
        *(path for path in TESTS.glob("benchmarks/test_*.py") if path.name != "test_report.py"),
        TESTS / "unit/device/test_cuda.py",
    }
)
"""Where the tests marked ``gpu`` are."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``-m gpu`` nothing else is imported: bitsandbytes opens CUDA when it is, and the GPU would be in use."""
    if config.getoption("markexpr") != "gpu":
        return None
    return None if any(path.is_relative_to(collection_path) for path in NEED_A_GPU) else True


@pytest.fixture
def environment() -> Environment:
    return Environment(
        device=EnvironmentDevice("cpu", "Imaginary CPU", 8 * 1024 * MIB),
        driver=None,
        versions={"python": "3.11.2", "torch": "2.13.0+cpu", "transformers": "5.23.0", "peft": "0.21.2"},
        cpu={"name": "Imaginary CPU", "cores": 2},
        gpu={},
        os="Imaginary Linux",
        git=None,
        lorabench="0.1.0",
        id="0123456789ab",
    )


@pytest.fixture
def make_record(environment: Environment) -> Callable[..., Record]:
    """Builds a record of a training case that went well; keywords replace fields of the record or of its case."""

    def make(case: Mapping[str, Any] | None = None, **changes: Any) -> Record:
        settings = {"adapter": Adapter(rank=4), "axes": (("adapter.rank", 4),), **(case or {})}
        whole = Case(**{"scenario": "ranks", "task": "train", "model": "llama-tiny", **settings})
        seconds = Timing((0.010, 0.011, 0.012), 0.011, (0.0105, 0.0118), unstable=False)
        fields: dict[str, Any] = {
            "environment": environment.id,
            "key": whole.key,
            "name": whole.name,
            "scenario": whole.scenario,
            "group": whole.group,
            "case": whole.to_dict(),
            "status": "ok",
            "error": None,
            "source": "measured",
            "device": RecordDevice("cpu", "Imaginary CPU"),
            "seed": whole.seed,
            "repeat": 0,
            "started_at": "2026-01-02T03:04:05+00:00",
            "wall_s": 2.5,
            "proof": Proof(trainable_parameters=4096, total_parameters=1_000_000, adapter_modules=8, layers=4),
            "memory": Memory(
                static_bytes=100 * MIB,
                dynamic_bytes=50 * MIB,
                peak_allocated_bytes=150 * MIB,
                phases={"forward": PhaseMemory(100 * MIB, 140 * MIB, 139 * MIB)},
            ),
            "latency": {"step": seconds, "forward": seconds},
            "tokens_per_s": 46545.45,
        }
        return Record(**{**fields, **changes})

    return make


@pytest.fixture
def failed_record(make_record: Callable[..., Record]) -> Record:
    error = RecordError("RuntimeError", "no such kernel", "forward")
    nothing: dict[str, Any] = {"proof": None, "memory": None, "latency": {}, "tokens_per_s": None}
    case = {"adapter": Adapter(rank=8), "axes": (("adapter.rank", 8),)}
    return make_record(case=case, status="failed", error=error, **nothing)
