"""What a prediction costs on two cores: the seconds of its job, imports apart, and the whole process's memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("one_prediction.py")
LIMIT_BYTES = 1 << 30
ROUNDS = 3


def predict(model: str, quantization: str) -> dict[str, Any]:
    """In a fresh process, which shares nothing with the rounds before."""
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), model, quantization],
        check=True,
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )
    told: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return told


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "quantization", "limit_s", "limit_bytes"),
    [
        pytest.param("llama-2-7b", "bf16", 8.0, LIMIT_BYTES, id="7b-bf16"),
        pytest.param("llama-2-7b", "int8", 8.0, LIMIT_BYTES, id="7b-int8"),
        pytest.param("llama-3-70b", "bf16", 30.0, None, id="70b-bf16"),
    ],
)
def test_a_training_case_is_predicted_in_seconds(benchmark, model, quantization, limit_s, limit_bytes):
    told: list[dict[str, Any]] = []
    # The benchmark's own time is the process's, imports included.
    benchmark.pedantic(lambda: told.append(predict(model, quantization)), rounds=ROUNDS)
    assert [one["status"] for one in told] == ["ok"] * ROUNDS
    benchmark.extra_info["job_s"] = [one["job_s"] for one in told]
    benchmark.extra_info["resident_bytes"] = [one["resident_bytes"] for one in told]
    assert max(one["job_s"] for one in told) <= limit_s
    if limit_bytes is not None:
        assert max(one["resident_bytes"] for one in told) <= limit_bytes
