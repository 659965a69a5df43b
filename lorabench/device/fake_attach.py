"""Attaches adapters to models of fake tensors: what PEFT takes on the device while it attaches, and what stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from peft.tuners.lora.dora import DoraLinearLayer
from peft.tuners.trainable_tokens import TrainableTokensLayer
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from lorabench.device.replacement import replaced

_Replacement = Callable[[Tensor], Tensor]


def attach_on_meta(model: nn.Module, attaching: Callable[[], nn.Module]) -> nn.Module:
    """Attach to a model of fake tensors, and give the adapter fake storage of the dtype that PEFT chooses.

    PEFT moves adapters with ``.to()``, which cannot swap a fake parameter. So the model stands on the meta device while
    PEFT works, no mode active, and gets its own parameters back afterwards; the new ones are made in the fake mode.
    DoRA's magnitudes are norms of a layer's weights and adapter. They are computed when these have their storage, and
    before the next layer's adapter is made, so that the operators count as those of a step do.

    Args:
        attaching: calls PEFT; returns what it makes of ``model``.
    """
    device = next(model.parameters()).device
    magnitudes: dict[nn.Module, dict[str, Any]] = {}
    measure_weights = DoraLinearLayer.update_layer

    def put_off(layer: nn.Module, **arguments: Any) -> None:
        magnitudes[layer] = arguments

    with _disable_current_modes():
        stand_ins: dict[Tensor, Tensor] = {weight: _on_meta(weight) for weight in model.parameters()}
        originals = {stand_in: weight for weight, stand_in in stand_ins.items()}
        for module in model.modules():
            _replace(module._parameters, stand_ins.__getitem__)
        with replaced([(DoraLinearLayer, "update_layer", put_off)]):
            attached = attaching()

    def with_storage(tensor: Tensor) -> Tensor:
        found = originals.get(tensor)
        if found is None:
            found = torch.empty(tensor.shape, dtype=tensor.dtype, device=device) if tensor.is_meta else tensor
            originals[tensor] = found = nn.Parameter(found) if isinstance(tensor, nn.Parameter) else found
        found.requires_grad = tensor.requires_grad
        return found

    for module in attached.modules():
        _replace(module._parameters, with_storage)
        _replace(module._buffers, with_storage)
        if module in magnitudes:
            arguments = magnitudes[module]
            matrices = {name: with_storage(arguments.pop(name)) for name in ("lora_A", "lora_B")}
            measure_weights(module, **arguments, **matrices)
    for module in attached.modules():
        if isinstance(module, TrainableTokensLayer):
            # The rows that were read, of which PEFT keeps two copies.
            for rows in module.trainable_tokens_original.values():
                torch.empty_like(rows)
    return attached


def _on_meta(weight: Tensor) -> nn.Parameter:
    empty = torch.empty(weight.shape, dtype=weight.dtype, device="meta")
    stand_in = nn.Parameter(empty, requires_grad=weight.requires_grad)
    # Of a 4-bit weight PEFT asks how it was quantized.
    vars(stand_in).update(vars(weight))
    return stand_in


def _replace(tensors: dict[str, Any], replacement: _Replacement) -> None:
    for name, tensor in tensors.items():
        if tensor is not None:
            tensors[name] = replacement(tensor)
