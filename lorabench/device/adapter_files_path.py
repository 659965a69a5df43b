"""Makes PEFT write and read an adapter's file with fake tensors, which have no values to write."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from peft import peft_model
from peft.utils import save_and_load
from torch import Tensor

from lorabench.device.replacement import Replacement

_Shapes = Mapping[str, tuple[torch.Size, torch.dtype]]


def file_replacements() -> list[Replacement]:
    """Files are left empty; what would be in them is kept for as long as the replacements are in place."""
    kept: dict[Path, _Shapes] = {}

    def save_file(tensors: Mapping[str, Tensor], filename: str | PathLike[str], metadata: Any = None) -> None:
        """As safetensors': its copies lie on the host, and nothing on the device."""
        path = Path(filename)
        path.touch()
        kept[path.resolve()] = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}

    def load_file(filename: str | PathLike[str], device: Any = "cpu") -> dict[str, Tensor]:
        """As safetensors' on CUDA: each tensor in memory of its own, in the order of the file."""
        shapes = kept[Path(filename).resolve()]
        return {name: torch.empty(shape, dtype=dtype) for name, (shape, dtype) in shapes.items()}

    return [
        (peft_model, "safe_save_file", save_file),
        (peft_model, "id_tensor_storage", _own_storage),
        (save_and_load, "safe_load_file", load_file),
    ]


def _own_storage(tensor: Tensor) -> tuple[torch.device, int]:
    """Fake storages all have the address 0, by which PEFT would take them for one, and copy it for each tensor."""
    return tensor.device, tensor.untyped_storage()._cdata
