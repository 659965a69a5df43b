"""Who holds which tensor: the model's parts, the optimizer's state, a cache."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import bitsandbytes.functional
import torch
from torch import nn

from lorabench.measure.attribution.categories import (
    ADAPTER_WEIGHTS,
    BASE_WEIGHTS,
    OPTIMIZER_STATE,
    QUANTIZATION_STATE,
)

# PEFT's own names: lora_A, lora_B, lora_embedding_A, lora_magnitude_vector, and the copies of heads that it trains.
_ADAPTER = re.compile(r"(^|\.)(lora_|modules_to_save\.)")
# Objects of these packages are looked into: bitsandbytes' QuantState and MatmulLtState, transformers' caches.
_OPENED = ("bitsandbytes", "transformers")
_DEPTH = 5


class Held(NamedTuple):
    """A tensor, what it is, and the module that holds it."""

    category: str
    module: str
    tensor: torch.Tensor


def tensors_in(value: Any, depth: int = _DEPTH) -> Iterator[torch.Tensor]:
    """Tensors in ``value``, in containers, and in attributes of objects of bitsandbytes and transformers."""
    if isinstance(value, torch.Tensor):
        yield value
    elif depth == 0 or isinstance(value, nn.Module | torch.optim.Optimizer | str):
        return
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item, depth - 1)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item, depth - 1)
    elif type(value).__module__.partition(".")[0] in _OPENED and hasattr(value, "__dict__"):
        for item in vars(value).values():
            yield from tensors_in(item, depth - 1)


def held_by_model(model: nn.Module) -> Iterator[Held]:
    """Parameters and buffers first, so that an attribute that shares a weight's storage does not rename it."""
    modules = list(model.named_modules())
    for name, module in modules:
        for inner, parameter in module._parameters.items():
            if parameter is not None:
                is_adapter = _ADAPTER.search(f"{name}.{inner}") is not None
                yield Held(ADAPTER_WEIGHTS if is_adapter else BASE_WEIGHTS, name, parameter)
        for buffer in module._buffers.values():
            if buffer is not None:
                yield Held(BASE_WEIGHTS, name, buffer)
    for name, module in modules:
        for parameter in module._parameters.values():
            # Int8Params and Params4bit carry their state themselves, and the layer another of its own.
            for tensor in tensors_in(list(getattr(parameter, "__dict__", {}).values())):
                yield Held(QUANTIZATION_STATE, name, tensor)
        for attribute, value in vars(module).items():
            if attribute in ("_parameters", "_buffers", "_modules"):
                continue
            is_quantization = type(value).__module__.startswith("bitsandbytes")
            for tensor in tensors_in(value):
                yield Held(QUANTIZATION_STATE if is_quantization else BASE_WEIGHTS, name, tensor)


def held_by_optimizer(optimizer: torch.optim.Optimizer | None, names: Mapping[Any, str]) -> Iterator[Held]:
    """The state of each parameter under the name of its module in ``names``, and what all share (code books)."""
    if optimizer is None:
        return
    for parameter, state in optimizer.state.items():
        for tensor in tensors_in(state):
            yield Held(OPTIMIZER_STATE, names.get(parameter, ""), tensor)
    for attribute, value in vars(optimizer).items():
        if attribute not in ("param_groups", "state"):
            for tensor in tensors_in(value):
                yield Held(OPTIMIZER_STATE, "", tensor)


def held_by_libraries() -> Iterator[Held]:
    """Code books that bitsandbytes keeps for a whole process: ``quantize_blockwise`` in bitsandbytes/functional.py."""
    for tensor in tensors_in(bitsandbytes.functional.name2qmap):
        yield Held(QUANTIZATION_STATE, "", tensor)


def parameter_modules(model: nn.Module) -> dict[Any, str]:
    """The name of the module that holds each parameter."""
    return {
        parameter: name
        for name, module in model.named_modules()
        for parameter in module._parameters.values()
        if parameter is not None
    }
