"""Adapters: attached, filled and merged the way PEFT documents it."""

from __future__ import annotations

import math
import warnings
from functools import partial
from typing import TYPE_CHECKING

import torch
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import cast_adapter_dtype
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from lorabench.case import Adapter, Case
from lorabench.device.fake_attach import attach_on_meta
from lorabench.errors import InputError
from lorabench.model.weights import holds_values, name_seed

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Standard deviation of the elements of B @ A x scaling: a fifth of the 0.02 that models initialise their weights with.
_DELTA_STD = 0.004


def prepare(model: PreTrainedModel, case: Case) -> PreTrainedModel:
    """``prepare_model_for_kbit_training`` where the case asks for it, before :func:`attach`; else nothing.

    It freezes the model and casts what is not quantized to fp32. Checkpointing is left to :func:`enable_checkpointing`.
    """
    if not case.kbit_preparation:
        return model
    prepared: PreTrainedModel = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    return prepared


def attach(model: PreTrainedModel, case: Case) -> nn.Module:
    """The model with the case's adapter: a ``PeftModel``, or ``model`` itself where there is no adapter.

    The adapter's values are PEFT's own initialisation, the same for the same ``case.seed``. Under a fake tensor mode
    they hold no values.

    Raises:
        InputError: PEFT refuses the adapter's settings, or weights that cannot be trained are to be; one line.
    """
    if case.adapter is None:
        if case.task == "train" and case.quantization in ("int8", "nf4"):
            raise InputError(
                f"adapter: none trains every weight, and {case.quantization} weights cannot be trained: "
                "give an adapter, or set quantization to fp32, fp16 or bf16"
            )
        bare: nn.Module = model
        return bare
    torch.manual_seed(case.seed)
    try:
        config = lora_config(case.adapter)
        widens = case.adapter.autocast_adapter_dtype
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if isinstance(next(model.parameters()).data, FakeTensor):
                attached = attach_on_meta(model, partial(get_peft_model, model, config, autocast_adapter_dtype=False))
                # After the adapters have their memory, as PEFT does it on real tensors.
                cast_adapter_dtype(attached, "default", autocast_adapter_dtype=widens)
            else:
                attached = get_peft_model(model, config, autocast_adapter_dtype=widens)
    except (TypeError, ValueError, ImportError, NotImplementedError, AttributeError, KeyError) as error:
        raise InputError(f"adapter: {' '.join(str(error).split())}") from error
    attached.train(case.task == "train")
    return attached


def lora_config(adapter: Adapter) -> LoraConfig:
    """PEFT's configuration of ``adapter``; its options override nothing that has a key of its own."""
    targets = adapter.target_modules
    return LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        bias=adapter.bias,
        task_type=adapter.task_type,
        use_rslora=adapter.rslora,
        **adapter.options,
    )


def enable_checkpointing(model: nn.Module, case: Case) -> None:
    """Gradient checkpointing as a training case asks, after :func:`attach`; else nothing.

    Reentrant checkpointing runs a layer without a graph, and rebuilds one in the backward pass only if an input of the
    layer requires a gradient. The first layer's input comes from the embedding: where that is frozen, as under an
    adapter, its output must be made to require one, or no adapter in the layer gets a gradient and nothing complains.
    Non-reentrant checkpointing keeps the graph and needs none of this, but some versions of transformers do it anyway.
    """
    if case.task != "train" or case.gradient_checkpointing == "none":
        return
    base: PreTrainedModel = model.get_base_model() if isinstance(model, PeftModel) else model
    reentrant = case.gradient_checkpointing == "reentrant"
    try:
        # The first name deprecates the second, and older versions have the second alone.
        if hasattr(base, "activation_checkpointing_enable"):
            base.activation_checkpointing_enable({"use_reentrant": reentrant})
        else:
            base.gradient_checkpointing_enable({"use_reentrant": reentrant})
    except ValueError as error:
        raise InputError(f"gradient_checkpointing: {' '.join(str(error).split())}") from error
    embedding_is_frozen = not any(weight.requires_grad for weight in base.get_input_embeddings().parameters())
    if reentrant and embedding_is_frozen and not getattr(base, "_require_grads_hooks", None):
        base.enable_input_require_grads()


@torch.no_grad()
def randomize_adapter(model: nn.Module, seed: int) -> None:
    """Fill what PEFT initialises with zeros, so that base and adapted outputs differ. Same seed, same values.

    Normal values whose product with the other matrix, scaling included, has elements of standard deviation 0.004:
    a fifth of a usual weight's. Fake adapters are left alone.
    """
    for module_name, module in model.named_modules():
        if not isinstance(module, LoraLayer):
            continue
        for adapter_name, scaling in module.scaling.items():
            for filled, zeroed in _matrix_pairs(module, adapter_name):
                if not holds_values(zeroed):
                    continue
                generator = torch.Generator().manual_seed(name_seed(seed, f"{module_name}.{adapter_name}"))
                rank = module.r[adapter_name]
                std = _DELTA_STD / (math.sqrt(rank) * scaling * float(filled.float().std()))
                values = torch.randn(zeroed.shape, generator=generator) * std
                zeroed.copy_(values)


@torch.no_grad()
def renew_adapter(model: nn.Module, seed: int) -> None:
    """Other values for both matrices of every layer, so that the model holds another adapter. Same seed, same values.

    What PEFT initialises keeps its spread, and :func:`randomize_adapter` fills the rest. Fake adapters are left alone.
    """
    for module_name, module in model.named_modules():
        if not isinstance(module, LoraLayer):
            continue
        for adapter_name in module.scaling:
            for filled, _ in _matrix_pairs(module, adapter_name):
                if not holds_values(filled):
                    continue
                generator = torch.Generator().manual_seed(name_seed(seed, f"{module_name}.{adapter_name} initialised"))
                filled.copy_(torch.randn(filled.shape, generator=generator) * filled.float().std().cpu())
    randomize_adapter(model, seed)


def _matrix_pairs(module: LoraLayer, adapter_name: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(initialised, zero) of an adapter: A and B of a linear layer, B and A of an embedding."""
    if adapter_name in module.lora_A:
        return [(module.lora_A[adapter_name].weight, module.lora_B[adapter_name].weight)]
    if adapter_name in module.lora_embedding_A:
        return [(module.lora_embedding_B[adapter_name], module.lora_embedding_A[adapter_name])]
    return []


def merge(model: nn.Module) -> PreTrainedModel:
    """``merge_and_unload``: the bare model with the adapter folded into its weights, which is what a user serves.

    ``merge_adapter`` would keep PEFT's layers, their call overhead and the adapter's own memory. int8 and nf4 weights
    are dequantized, added to and quantized again, so that a merged model differs from an unmerged one by rounding.
    """
    assert isinstance(model, PeftModel), "only a model with an adapter can be merged"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        merged: PreTrainedModel = model.merge_and_unload()
    return merged
