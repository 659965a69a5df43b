"""Merging a quantized layer goes through the CPU: the cause that the card of merge_and_unload names."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.gpu


def merged(quantization: str) -> dict[str, Any]:
    settings = {
        "model": "llama-3.2-1b",
        "quantization": quantization,
        "int8_threshold": 0.0,
        "sequence_length": 128,
        "adapter": {"rank": 8, "target_modules": ["q_proj", "v_proj"]},
    }
    if quantization != "int8":
        del settings["int8_threshold"]
    script = Path(__file__).parent / "merges.py"
    done = subprocess.run(
        [sys.executable, str(script), json.dumps(settings)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    # Queries are 2048 x 2048, keys' and values' heads are a quarter of these: 2048 x 512, in each of 16 layers.
    assert (told["layers"], told["weights"]) == (32, 16 * (2048 * 2048 + 2048 * 512))
    return told


@pytest.mark.parametrize(("quantization", "bytes_back"), [("nf4", 4), ("int8", 2)])
def test_a_quantized_weight_goes_to_the_cpu_in_fp32_and_comes_back_to_be_quantized(quantization, bytes_back):
    """PEFT adds an fp32 delta; bitsandbytes casts to fp16 before the way back in int8, and in nf4 not before."""
    told = merged(quantization)
    assert told["DtoH"]["copies"] == 32
    assert told["DtoH"]["bytes"] == 4 * told["weights"]
    # Beside the weights some tables of the scheme.
    assert told["HtoD"]["bytes"] == pytest.approx(bytes_back * told["weights"], rel=0.001)
    assert told["HtoD"]["bytes"] >= bytes_back * told["weights"]


def test_a_merge_in_16_bits_copies_nothing_between_gpu_and_cpu():
    told = merged("bf16")
    assert (told["DtoH"]["copies"], told["HtoD"]["copies"]) == (0, 0)
