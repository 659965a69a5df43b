"""What the benchmarks share: a case for each device that has all the parts of a real one."""

from __future__ import annotations

from typing import Any

import pytest

from lorabench.case import Case, Measure


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture
def case(device: str) -> Case:
    """Small on a CPU. On CUDA large enough that the GPU is what a step waits for: a launch-bound step has the jitter
    of the host, several percent from process to process."""
    if device == "cpu":
        small: dict[str, Any] = {"model": "llama-tiny", "quantization": "fp32", "sequence_length": 64}
        return Case(scenario="own-cost", task="train", measure=Measure(warmup=3, steps=40), **small)
    large: dict[str, Any] = {"model": "llama-3.2-1b", "quantization": "bf16", "batch_size": 16, "sequence_length": 512}
    return Case(scenario="own-cost", task="train", measure=Measure(warmup=3, steps=8), **large)


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Results are published: whose machine it was is nobody's business."""
    machine_info.pop("node", None)
