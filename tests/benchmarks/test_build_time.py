"""A 7B model with random weights is built on the GPU in seconds."""

from __future__ import annotations

import pytest

from lorabench.case import Case, Measure
from lorabench.environment import resolve_device
from lorabench.runner.run import run

LIMIT_S = {"bf16": 2.0, "int8": 6.0}


@pytest.mark.gpu
@pytest.mark.parametrize("quantization", LIMIT_S)
def test_a_7b_model_is_built_in_seconds(benchmark, quantization):
    measure = Measure(warmup=1, steps=1)
    settings = {"quantization": quantization, "int8_threshold": 0.0, "sequence_length": 64, "measure": measure}
    cases = [Case("build", "train", "llama-2-7b", seed=seed, **settings) for seed in range(3)]
    [*records] = benchmark.pedantic(lambda: list(run(cases, device="cuda")), rounds=1)
    assert [record.status for record in records] == ["ok"] * len(cases)
    build_s = [record.observations["stages_s"]["build"] for record in records]
    benchmark.extra_info["device"] = resolve_device("cuda").device.name
    benchmark.extra_info["build_s"] = build_s
    # The first process of a machine reads kernels from disk.
    assert max(build_s[1:]) <= LIMIT_S[quantization]
