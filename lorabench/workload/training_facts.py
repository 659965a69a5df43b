"""What training shows beyond bytes and seconds: what it trains, what it leaves alone, and what becomes of the cache."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from peft.tuners.lora import LoraLayer
from torch import nn

Kind = Literal["lora", "bias", "head", "other"]

# The finalizer of SplitMix64 (Steele, Lea and Flood 2014, figure 15) uses such constants: odd, so that multiplying by
# one is a bijection of 64-bit words.
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_FIRST = 0xBF58476D1CE4E5B9 - 2**64
_SECOND = 0x94D049BB133111EB - 2**64
# 4 MiB: small enough for a CPU's cache, large enough that a GPU computes longer than it takes to launch.
_CHUNK_WORDS = 2**19


def trainable_kind(name: str) -> Kind:
    """Why PEFT trains a parameter, by its name.

    ``lora``: A, B, DoRA's magnitudes. ``head``: a copy in ``modules_to_save``. ``bias``: a bias of the base model.
    ``other``: what no setting of an adapter trains.
    """
    if ".lora_" in name:
        return "lora"
    if ".modules_to_save." in name:
        return "head"
    return "bias" if name.endswith(".bias") else "other"


def trainable_by_kind(model: nn.Module) -> dict[Kind, int]:
    """Numbers of trainable parameters. Without an adapter all are ``other``: nothing but the weights themselves."""
    has_adapter = any(isinstance(module, LoraLayer) for module in model.modules())
    counts: dict[Kind, int] = {"lora": 0, "bias": 0, "head": 0, "other": 0}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            counts[trainable_kind(name) if has_adapter else "other"] += parameter.numel()
    return counts


def base_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """The base model's weights by name, with the scales of quantized ones: all that an adapter is to leave alone.

    Biases and heads that are trained are left out, weights that are trained without a reason are not.
    """
    found: dict[str, torch.Tensor] = {}
    for name, parameter in model.named_parameters():
        kind = trainable_kind(name)
        if kind != "lora" and not (parameter.requires_grad and kind in ("bias", "head")):
            found[name] = parameter.data
    for name, module in model.named_modules():
        scales = _scales(module)
        if scales is not None:
            found[f"{name}.scales"] = scales
    return found


def _scales(module: nn.Module) -> torch.Tensor | None:
    scales: torch.Tensor | None = None
    if isinstance(module, Linear8bitLt):
        # The first forward pass moves them from the weight to the layer.
        held = getattr(module.weight, "SCB", None)
        scales = module.state.SCB if held is None else held
    elif isinstance(module, Linear4bit):
        state = getattr(module.weight, "quant_state", None)
        scales = None if state is None else state.absmax
    return scales


@torch.no_grad()
def digests(tensors: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """64 bits for the bytes of each tensor, computed where it lies; waits for the device once.

    A sum of 64-bit words modulo 2**64, each word mixed with its position by a bijection first. So a tensor in which one
    word differs always has another digest, and one that differs in several has the same by a chance of about 2**-64.
    No protection against intent. 4 MiB are copied at a time: 7B parameters in bf16 take 3,200 rounds of nine kernels.
    """
    sums = [_digest(tensor) for tensor in tensors.values()]
    if not sums:
        return {}
    return dict(zip(tensors, torch.stack(sums).tolist(), strict=True))


def _digest(tensor: torch.Tensor) -> torch.Tensor:
    data = tensor.detach().contiguous().flatten().view(torch.uint8)
    total = torch.zeros((), dtype=torch.int64, device=data.device)
    for chunk in data.split(8 * _CHUNK_WORDS):
        # Copied, because a view as words needs an address and a length that are multiples of eight.
        words = torch.zeros(-(-len(chunk) // 8), dtype=torch.int64, device=data.device)
        words.view(torch.uint8)[: len(chunk)].copy_(chunk)
        words ^= torch.arange(len(words), device=data.device).mul_(_GOLDEN)
        words *= _FIRST
        words ^= words >> 32
        words *= _SECOND
        words ^= words >> 29
        total = total * _GOLDEN + words.sum()
    return total


@torch.no_grad()
def update_norm(model: nn.Module) -> float | None:
    """Frobenius norm of all layers' scaling x B @ A together; None without an adapter, or where it is not finite.

    From the Gram matrices, so that no product of a weight's size is made: ||B A||^2 = <B^T B, A A^T>, in fp64.
    """
    squares = []
    for module in model.modules():
        if isinstance(module, LoraLayer):
            for adapter in module.active_adapters:
                for a, b in _matrices(module, adapter):
                    grams = (b.T @ b) * (a @ a.T)
                    squares.append(module.scaling[adapter] ** 2 * grams.sum())
    if not squares:
        return None
    # Rounding can leave the sum of an update that is all zero a hair below it.
    norm = math.sqrt(max(float(torch.stack(squares).sum()), 0.0)) if _finite(squares) else math.nan
    return norm if math.isfinite(norm) else None


def _matrices(module: LoraLayer, adapter: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(A, B) of shapes [rank, in] and [out, rank], fp64."""
    if adapter in module.lora_A:
        return [(module.lora_A[adapter].weight.double(), module.lora_B[adapter].weight.double())]
    if adapter in module.lora_embedding_A:
        return [(module.lora_embedding_A[adapter].double(), module.lora_embedding_B[adapter].double())]
    return []


def _finite(squares: list[torch.Tensor]) -> bool:
    return bool(torch.stack(squares).isfinite().all())


class CacheWatch:
    """Looks at the first forward pass after it is made: does it return a KV cache, and what does transformers warn of?

    It costs later passes nothing, for its hooks are gone by then.
    """

    def __init__(self, model: nn.Module) -> None:
        self.returned = False
        self.warnings: list[str] = []
        self._log = _Log(self.warnings)
        self._hooks = [
            model.register_forward_pre_hook(self._before),
            model.register_forward_hook(self._after, always_call=True),
        ]

    def _before(self, *_: Any) -> None:
        # transformers says such things once in a process, and another case in it may have been told.
        forget = getattr(getattr(logging.Logger, "warning_once", None), "cache_clear", None)
        if forget is not None:
            forget()
        self._log.take_over()

    def _after(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._log.give_back()
        for hook in self._hooks:
            hook.remove()
        self.returned = getattr(output, "past_key_values", None) is not None


class _Log(logging.Handler):
    """Takes the place of the handlers of transformers' root logger, and keeps warnings about caches as lines."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._lines = lines
        self._logger = logging.getLogger("transformers")

    def take_over(self) -> None:
        self._before = self._logger.level, self._logger.handlers, self._logger.propagate
        self._logger.setLevel(logging.WARNING)
        self._logger.handlers, self._logger.propagate = [self], False

    def give_back(self) -> None:
        level, self._logger.handlers, self._logger.propagate = self._before
        # Not by assignment: loggers remember which levels are enabled, and setLevel makes them forget.
        self._logger.setLevel(level)

    def emit(self, record: logging.LogRecord) -> None:
        line = " ".join(record.getMessage().split())
        if "cach" in line.lower():
            self._lines.append(line)
