"""A model made from its architecture alone holds the bytes of the same model loaded from a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lorabench.case import Case, Measure
from lorabench.catalog import describe
from lorabench.record import Record
from lorabench.runner.run import run

pytestmark = pytest.mark.gpu

MODEL = "llama-3.2-1b"
QUANTIZATIONS = ("bf16", "int8", "nf4")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import AutoConfig, AutoModelForCausalLM

    preset = describe(MODEL).preset
    assert preset is not None
    config = AutoConfig.for_model(preset.model_type, **preset.config)
    folder = tmp_path_factory.mktemp("checkpoint")
    # On the CPU: this process must not hold a context on the GPU while the cases run.
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model = model.to_empty(device="cpu")
    model.tie_weights()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.02, generator=generator)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def records(checkpoint: Path) -> dict[tuple[str, str], Record]:
    built = [
        Case("built", "train", MODEL, quantization=name, int8_threshold=0.0, batch_size=2, measure=Measure(steps=2))  # type: ignore[arg-type]
        for name in QUANTIZATIONS
    ]
    loaded = [replace(case, scenario="loaded", model=str(checkpoint), weights="pretrained") for case in built]
    return {(record.scenario, record.case["quantization"]): record for record in run(built + loaded, device="cuda")}


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_built_and_loaded_take_the_same_bytes(quantization: str, records: dict[tuple[str, str], Record]) -> None:
    built, loaded = records["built", quantization], records["loaded", quantization]
    assert built.status == "ok", built.error
    assert loaded.status == "ok", loaded.error
    assert built.memory is not None
    assert loaded.memory is not None
    assert loaded.memory.static_bytes == built.memory.static_bytes
    assert loaded.memory.peak_allocated_bytes == built.memory.peak_allocated_bytes
