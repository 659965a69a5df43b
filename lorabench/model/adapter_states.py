"""The states of a model with adapters: merged in place or not, which adapter is active, how many there are."""

from __future__ import annotations

import inspect
from contextlib import AbstractContextManager
from typing import cast

import torch
from bitsandbytes.functional import dequantize_4bit, int8_vectorwise_dequant
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn


def lora_layers(model: nn.Module) -> dict[str, LoraLayer]:
    """PEFT's layers by the names that they replaced in the bare model."""
    return {
        name.removeprefix("base_model.model."): module
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer)
    }


def merge_in_place(model: PeftModel) -> None:
    """``merge_adapter``: the active adapter is added to the weights, and PEFT's layers stay."""
    model.merge_adapter()


def unmerge(model: PeftModel) -> None:
    """``unmerge_adapter``: it is subtracted again."""
    model.unmerge_adapter()


def is_merged(model: nn.Module) -> bool:
    """Whether any layer is merged."""
    return any(layer.merged for layer in lora_layers(model).values())


def switch(model: PeftModel, name: str) -> None:
    """``set_adapter``: the adapter of that name is active, and no other."""
    model.set_adapter(name)


def disabled(model: PeftModel) -> AbstractContextManager[None]:
    """``disable_adapter``: within it, the model shall be the base."""
    return cast(AbstractContextManager[None], model.disable_adapter())


def delete(model: PeftModel, name: str) -> None:
    """``delete_adapter``."""
    model.delete_adapter(name)


def takes_merge_weights() -> bool:
    """Whether ``LoraConfig`` still has the argument with which older versions merged by themselves on ``eval()``."""
    return "merge_weights" in inspect.signature(LoraConfig).parameters


@torch.no_grad()
def adapted_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights beneath PEFT's layers as the numbers that they stand for, quantized ones too; copies on the host."""
    return {
        name: _numbers(layer.get_base_layer()).detach().to("cpu", copy=True)
        for name, layer in lora_layers(model).items()
    }


def _numbers(layer: nn.Module) -> torch.Tensor:
    weight = cast(torch.Tensor, layer.weight)
    if isinstance(layer, Linear8bitLt):
        # The first forward pass moves the scales from the weight to the layer.
        held = getattr(layer.weight, "SCB", None)
        dequantized: torch.Tensor = int8_vectorwise_dequant(weight.data, layer.state.SCB if held is None else held)
        return dequantized
    if isinstance(layer, Linear4bit):
        return cast(torch.Tensor, dequantize_4bit(weight.data, layer.weight.quant_state))
    return weight
