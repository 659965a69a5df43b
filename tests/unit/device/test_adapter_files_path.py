"""Adapters are saved and loaded without values: what is written is known by its names, shapes and dtypes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import peft_model
from peft.utils import save_and_load

from lorabench.device.fake import FakeDevice

BLOCK = 512


def test_what_was_saved_is_loaded_into_memory_of_its_own(tmp_path: Path) -> None:
    device, file = FakeDevice(), tmp_path / "adapter.safetensors"
    kept: Any = {"b": ((3, 5), torch.float32), "a": ((700,), torch.bfloat16)}
    with device.session():
        saved = {name: torch.empty(shape, dtype=dtype) for name, (shape, dtype) in kept.items()}
        before = device.allocated_bytes()
        peft_model.safe_save_file(saved, str(file), metadata={"format": "pt"})
        assert device.allocated_bytes() == before
        loaded = save_and_load.safe_load_file(str(file), device="cuda:0")
        assert device.allocated_bytes() - before == BLOCK + 3 * BLOCK
        assert {name: (tuple(one.shape), one.dtype) for name, one in loaded.items()} == kept
        assert list(loaded) == list(saved)
    assert file.read_bytes() == b""


def test_fake_tensors_are_told_apart_by_their_storage() -> None:
    with FakeDevice().session():
        first, second = torch.empty(4), torch.empty(4)
        told = [peft_model.id_tensor_storage(tensor) for tensor in (first, first[1:], second)]
    assert told[0] == told[1] != told[2]


def test_real_files_are_written_again_after_the_session(tmp_path: Path) -> None:
    save, load, own = peft_model.safe_save_file, save_and_load.safe_load_file, peft_model.id_tensor_storage
    with FakeDevice().session():
        assert peft_model.safe_save_file is not save
    assert (peft_model.safe_save_file, save_and_load.safe_load_file, peft_model.id_tensor_storage) == (save, load, own)
    save({"a": torch.ones(2)}, str(tmp_path / "a"))
    assert load(str(tmp_path / "a"))["a"].tolist() == [1.0, 1.0]
