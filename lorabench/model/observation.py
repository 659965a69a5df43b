"""One step watched from outside: what was called, which kernels ran, which gradients arrived."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from bitsandbytes.nn import Linear8bitLt
from peft.tuners.lora import LoraLayer
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.modeling_layers import GradientCheckpointingLayer

from lorabench.case import Case
from lorabench.model.weights import holds_values
from lorabench.record import Gradients

EAGER = "eager"
SDPA_MATH = "_scaled_dot_product_attention_math"
"""Scaled dot product attention without a fused kernel: torch takes it apart before a dispatch mode sees it."""


@dataclass
class StepObservation:
    """What one step showed; complete when :func:`observe_step` ends."""

    layer_forward_calls: dict[str, int] = field(default_factory=dict)
    """Calls of each layer's first submodule, recomputation included."""
    adapter_gradients: Gradients | None = None
    """None without an adapter that trains, and where tensors hold no values."""
    attention_kernels: tuple[str, ...] = ()
    """Attention operators without ``aten::``, sorted; ``eager`` where attention was made of plain products."""
    outlier_share: dict[str, float] = field(default_factory=dict)
    """Of each int8 layer's input columns, those that hold an outlier, in the layer's first call of the step."""


def layers_of(model: nn.Module) -> dict[str, nn.Module]:
    """The repeated blocks of a transformer by name: what gradient checkpointing recomputes one at a time."""
    return {name: module for name, module in model.named_modules() if isinstance(module, GradientCheckpointingLayer)}


def trains(case: Case) -> bool:
    """Whether training steps are part of the case: all of a training, the beginning of an adapter's life."""
    return case.task != "infer"


def adapter_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The trainable tensors that LoRA layers add: A and B, and DoRA's magnitudes."""
    return {
        f"{name}.{inner}": parameter
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer)
        for inner, parameter in module.named_parameters()
        if inner.startswith("lora_") and parameter.requires_grad
    }


@contextmanager
def observe_step(model: nn.Module, case: Case) -> Iterator[StepObservation]:
    """Watch one whole step or prefill: ``with observe_step(model, case) as seen: step()``.

    Of training, watch the second step or a later one: in the first, every gradient of A is zero because B is. Gradients
    are read as they arrive, so the step may clear them. It synchronises with the device many times: never time it.
    """
    seen = StepObservation()
    arrived: dict[str, bool] = {}
    attention = _AttentionOperators()
    calls = _AttentionCalls()
    with ExitStack() as stack:
        for name, layer in layers_of(model).items():
            seen.layer_forward_calls[name] = 0
            hook = _first_submodule(layer).register_forward_pre_hook(_counter(seen.layer_forward_calls, name))
            stack.callback(hook.remove)
        parameters = adapter_parameters(model) if trains(case) else {}
        for name, parameter in parameters.items():
            handle = parameter.register_post_accumulate_grad_hook(_gradient_reader(arrived, name))
            stack.callback(handle.remove)
        if case.splits_outliers:
            for name, module in model.named_modules():
                if isinstance(module, Linear8bitLt):
                    reader = _outlier_reader(seen.outlier_share, base_name(name), case.int8_threshold)
                    stack.callback(module.register_forward_pre_hook(reader).remove)
        stack.enter_context(calls)
        stack.enter_context(attention)
        yield seen
    seen.attention_kernels = _kernels(attention.names, calls.count)
    if parameters and all(holds_values(parameter) for parameter in parameters.values()):
        seen.adapter_gradients = Gradients(len(parameters), len(arrived), sum(arrived.values()))


def base_name(name: str) -> str:
    """The name of a module in the bare model, whatever PEFT wraps around it."""
    return name.removeprefix("base_model.model.").removesuffix(".base_layer")


def _first_submodule(layer: nn.Module) -> nn.Module:
    """The first child that is called; a container is not, but its first element is."""
    first = next(layer.children())
    return _first_submodule(first) if isinstance(first, (nn.ModuleList, nn.Sequential)) else first


def _counter(calls: dict[str, int], name: str) -> Callable[..., None]:
    def count(*_: Any) -> None:
        calls[name] += 1

    return count


def _gradient_reader(arrived: dict[str, bool], name: str) -> Callable[[torch.Tensor], None]:
    def read(parameter: torch.Tensor) -> None:
        if parameter.grad is not None and holds_values(parameter.grad):
            arrived[name] = arrived.get(name, False) or bool(parameter.grad.any())

    return read


def _outlier_reader(shares: dict[str, float], name: str, threshold: float) -> Callable[..., None]:
    def read(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if name in shares or not holds_values(inputs[0]):
            return
        # As int8_vectorwise_quant looks for them: in fp16, any row of a column.
        rows = inputs[0].detach().to(torch.float16).flatten(0, -2)
        shares[name] = float((rows.abs() >= threshold).any(dim=0).float().mean())

    return read


class _AttentionOperators(TorchDispatchMode):
    """Names of the fused attention operators that are dispatched, forward ones alone."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        namespace, _, name = func.name().partition("::")
        is_attention = name.startswith("_scaled_dot_product_") or "flash_attn" in f"{namespace}.{name}"
        if is_attention and "backward" not in name:
            self.names[name.partition(".")[0]] += 1
        return func(*args, **(kwargs or {}))


class _AttentionCalls(TorchFunctionMode):
    """Counts calls of scaled_dot_product_attention, whatever torch makes of them."""

    count = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is nn.functional.scaled_dot_product_attention:
            self.count += 1
        return func(*args, **(kwargs or {}))


def _kernels(dispatched: Counter[str], sdpa_calls: int) -> tuple[str, ...]:
    """Calls of torch's function that no fused operator answered were made of plain products, beside others or alone."""
    fused = sum(count for name, count in dispatched.items() if name.startswith("_scaled_dot_product_"))
    names = {*dispatched, *((SDPA_MATH,) if fused < sdpa_calls else ())}
    return tuple(sorted(names)) or (EAGER,)
