"""Makes PEFT take the way on fake tensors that it takes on CUDA."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.trainable_tokens import TrainableTokensLayer
from torch import Tensor

from lorabench.device.replacement import Replacement
from lorabench.errors import DeviceError

_DECOMPOSING = ("pissa_init", "corda_init", "olora_init", "mica_init", "loftq_init", "lora_ga_init")
"""They make A and B from the base's weights or gradients, mostly by a singular value decomposition."""


def adapter_replacements() -> list[Replacement]:
    return [
        *((LoraLayer, name, _refusing(name)) for name in _DECOMPOSING if hasattr(LoraLayer, name)),
        (TrainableTokensLayer, "get_merged_weights", _merged_rows),
        (TrainableTokensLayer, "merge", _merging_rows(TrainableTokensLayer.merge)),
    ]


def _refusing(name: str) -> Callable[..., None]:
    def refuse(*args: Any, **options: Any) -> None:
        raise DeviceError(
            f"adapter.options.init_lora_weights: {name.removesuffix('_init')} computes the adapter from the values of "
            "the base's weights, with buffers in CUDA's solvers that depend on them, so it cannot be predicted; "
            "use the default initialisation"
        )

    return refuse


def _merged_rows(layer: TrainableTokensLayer, active_adapters: Iterable[str]) -> Tensor:
    """``get_merged_weights`` with the tokens' numbers on the device, where ``.to`` brings them on CUDA."""
    weight: Tensor = layer.base_layer.weight
    for adapter in active_adapters:
        index = _on_device(layer.token_indices[adapter], weight.device)
        weight = weight.index_copy(0, index, layer.trainable_tokens_delta[adapter].to(weight))
    return weight


def _merging_rows(merge: Callable[..., None]) -> Callable[..., None]:
    def merge_rows(layer: TrainableTokensLayer, *args: Any, **options: Any) -> None:
        # Each adapter's, one after the other.
        index = _on_device(max(layer.token_indices.values(), key=len), layer.base_layer.weight.device)
        merge(layer, *args, **options)
        del index

    return merge_rows


def _on_device(token_indices: Sequence[int], device: torch.device) -> Tensor:
    return torch.empty(len(token_indices), dtype=torch.int64, device=device)
