"""What a case must yield, computed from the bare model's module shapes: a second opinion on what PEFT builds.

LoRA adds to a layer of ``in`` x ``out`` two matrices of r x in and out x r (Hu et al. 2021, section 4.1), so
r (in + out) trainable parameters; DoRA adds a magnitude for each output (Liu et al. 2024, section 4), a LoRA bias
another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from lorabench.case import Adapter, Case
from lorabench.model.observation import layers_of
from lorabench.model.quantization import is_quantizing, must_be_quantized, trained_heads

# Options that leave the number of trained parameters as it is, or that `expect` knows how to count.
_COUNTED_OPTIONS = frozenset(
    {"use_dora", "lora_bias", "rank_pattern", "alpha_pattern", "modules_to_save", "exclude_modules"}
    | {"layers_to_transform", "init_lora_weights", "inference_mode", "revision", "ensure_weight_tying"}
)


@dataclass(frozen=True)
class Expected:
    """Counts that the proof of a case is compared with; None where an option of PEFT makes them unknown here."""

    quantized_modules: int
    adapter_modules: int | None
    adapter_tensors: int | None
    trainable_parameters: int | None
    layers: int


def expect(base: PreTrainedModel, case: Case) -> Expected:
    """Call it on the bare model, dense or quantized, before ``prepare`` and ``attach``."""
    quantized = len(must_be_quantized(base, case)) if is_quantizing(case) else 0
    layers = len(layers_of(base))
    adapter = case.adapter
    if adapter is None or (case.task == "infer" and case.adapter_state != "unmerged"):
        return Expected(quantized, 0, 0, sum(weight.numel() for weight in base.parameters()), layers)
    if not _COUNTED_OPTIONS.issuperset(adapter.options):
        return Expected(quantized, None, None, None, layers)
    saved = whole_modules(case)
    targets = target_modules(base, case)
    added = [_added_parameters(name, module, adapter) for name, module in targets.items()]
    trainable = sum(sum(tensors) for tensors in added)
    trainable += _trained_biases(base, targets, adapter, saved) + _saved_parameters(base, saved)
    return Expected(quantized, len(targets), sum(len(tensors) for tensors in added), trainable, layers)


def in_and_out(module: nn.Module) -> tuple[int, int]:
    """Features that go in and come out of a layer that LoRA can adapt."""
    if isinstance(module, Conv1D):
        return module.nx, module.nf
    if isinstance(module, nn.Embedding):
        return module.num_embeddings, module.embedding_dim
    assert isinstance(module, nn.Linear)
    return module.in_features, module.out_features


def whole_modules(case: Case) -> tuple[str, ...]:
    """Names of the modules that PEFT trains whole, in a copy: those asked for, and the head of a classifier."""
    return () if case.adapter is None else _names(case.adapter.options.get("modules_to_save")) + trained_heads(case)


def target_modules(base: PreTrainedModel, case: Case) -> dict[str, nn.Module]:
    """The layers of the bare model, by name, that the case's adapter must reach, and no other."""
    adapter = case.adapter
    if adapter is None:
        return {}
    kept_out = _names(adapter.options.get("exclude_modules")) + whole_modules(case)
    found = {}
    for name, module in base.named_modules():
        if not isinstance(module, (nn.Linear, Conv1D, nn.Embedding)):
            continue
        if matches(name, kept_out) or not _is_in_layers(name, adapter.options.get("layers_to_transform")):
            continue
        if adapter.target_modules == "all-linear":
            wanted = not isinstance(module, nn.Embedding) and module is not base.get_output_embeddings()
        elif isinstance(adapter.target_modules, str):
            wanted = re.fullmatch(adapter.target_modules, name) is not None
        else:
            wanted = matches(name, adapter.target_modules)
        if wanted:
            found[name] = module
    return found


def _added_parameters(name: str, module: nn.Module, adapter: Adapter) -> list[int]:
    """Sizes of the tensors that one adapted layer gets."""
    rank = rank_of(name, adapter)
    ingoing, outgoing = in_and_out(module)
    sizes = [rank * ingoing, rank * outgoing]
    if adapter.options.get("use_dora"):
        sizes.append(outgoing)
    if adapter.options.get("lora_bias"):
        sizes.append(outgoing)
    return sizes


def rank_of(name: str, adapter: Adapter) -> int:
    """The rank of the adapter at the layer of that name."""
    patterns: Mapping[str, int] = adapter.options.get("rank_pattern") or {}
    for pattern, rank in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            return rank
    return adapter.rank


def _trained_biases(
    base: PreTrainedModel, targets: Mapping[str, nn.Module], adapter: Adapter, saved: tuple[str, ...]
) -> int:
    if adapter.bias == "none":
        return 0
    if adapter.bias == "all":
        # A module that is saved whole has its bias counted there.
        biases = {name: weight for name, weight in base.named_parameters() if name.endswith(".bias")}
        return sum(bias.numel() for name, bias in biases.items() if not matches(name.removesuffix(".bias"), saved))
    of_targets = (getattr(module, "bias", None) for module in targets.values())
    return sum(bias.numel() for bias in of_targets if bias is not None)


def _saved_parameters(base: PreTrainedModel, saved: tuple[str, ...]) -> int:
    """Parameters of the modules that are trained whole, in a copy."""
    whole = [module for name, module in base.named_modules() if matches(name, saved)]
    return sum(weight.numel() for module in whole for weight in module.parameters())


def _names(option: Any) -> tuple[str, ...]:
    return (option,) if isinstance(option, str) else tuple(option or ())


def matches(name: str, suffixes: tuple[str, ...]) -> bool:
    """Whether ``name`` ends with one of ``suffixes``, whole parts of a path alone: PEFT's own rule."""
    return any(name == suffix or name.endswith(f".{suffix}") for suffix in suffixes)


def _is_in_layers(name: str, wanted: int | list[int] | None) -> bool:
    if wanted is None:
        return True
    index = re.match(r".*?\.[^.]*\.(\d+)\.", name)
    return index is not None and int(index[1]) in ([wanted] if isinstance(wanted, int) else wanted)
