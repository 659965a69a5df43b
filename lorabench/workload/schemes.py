"""What the 8-bit schemes lose on a case's own weights and activations, and how bitsandbytes' codes compare."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, get_args

import torch
from bitsandbytes.functional import int8_vectorwise_quant
from torch import nn
from transformers.pytorch_utils import Conv1D

from lorabench.case import Case
from lorabench.device.protocol import Device
from lorabench.model.architecture import resolve_config
from lorabench.model.build import build_base, build_skeleton
from lorabench.model.quantization import must_be_quantized
from lorabench.model.schemes import SCHEMES, Axis, absmax
from lorabench.workload.inputs import training_inputs

WHOLE_PARAMETERS = 200_000_000
"""Up to which a model is built whole in fp32."""
FEW_LAYERS = 2
"""Of a larger one with random weights, which are alike in all layers."""
TOKENS = 128
"""Rows of activations, at most."""
SKEWED_SHAPE = (512, 1024)


@torch.no_grad()
def observe(case: Case, device: Device, *, trust_remote_code: bool = False) -> dict[str, Any]:
    """The observation ``schemes`` of ``case``, whose own quantization does not matter.

    It builds a base of its own and takes one linear layer of each kind, from the first layer to the last
    (``modules``). ``weights`` are those of these layers, ``activations`` what one forward pass gives them: on real text
    where weights are pretrained, else on random tokens. ``skewed`` are normal samples after a ReLU. An error is the
    Frobenius norm of the difference over that of the values, all matrices of a kind together. ``bytes`` are those of
    codes, scales and zero points, for ``elements`` numbers.

    Pretrained weights of smollm2-135m lie on a 4-bit grid in blocks of 32; 8-bit codes of whole rows do not follow it.
    """
    with _base(case, device.torch_device, trust_remote_code) as (model, built):
        names = spread(must_be_quantized(model, case))
        modules = {name: model.get_submodule(name) for name in names}
        matrices = {
            "weights": [_weight(module) for module in modules.values()],
            "activations": _activations(model, list(modules.values()), built, device.torch_device),
            "skewed": [_skewed(case.seed, device.torch_device)],
        }
    return {
        "modules": names,
        "absmax_codes": compare_codes([matrix for kind in matrices.values() for matrix in kind]),
        "errors": [
            {"tensor": kind, "scheme": scheme, "axis": axis, **_loss(found, scheme, axis)}
            for kind, found in matrices.items()
            for scheme in SCHEMES
            for axis in get_args(Axis)
        ],
    }


def spread(names: Sequence[str]) -> list[str]:
    """One name of each last component, each from another depth: the first kind's first, the last kind's last."""
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault(name.rpartition(".")[2], []).append(name)
    last = max(len(kinds) - 1, 1)
    return [found[round(position * (len(found) - 1) / last)] for position, found in enumerate(kinds.values())]


def compare_codes(matrices: Sequence[torch.Tensor]) -> dict[str, int]:
    """Codes of the row-wise reference against those of bitsandbytes on the same device, both of the same fp16."""
    compared = differing = largest = 0
    for matrix in matrices:
        half = matrix.to(torch.float16)
        # Before the other: it is handed a copy, for with outliers it writes into what it is given.
        ours = absmax(half, "row").codes.int()
        theirs = int8_vectorwise_quant(half.clone())[0].int()
        difference = (ours - theirs).abs()
        compared += difference.numel()
        differing += int(difference.count_nonzero())
        largest = max(largest, int(difference.max()))
    return {"compared": compared, "differing": differing, "largest_difference": largest}


def _loss(matrices: Sequence[torch.Tensor], scheme: str, axis: Axis) -> dict[str, Any]:
    quantized = [SCHEMES[scheme](matrix, axis) for matrix in matrices]
    lost = sum(
        float((matrix - q.values()).double().square().sum()) for matrix, q in zip(matrices, quantized, strict=True)
    )
    held = sum(float(matrix.double().square().sum()) for matrix in matrices)
    return {
        "relative_error": (lost / held) ** 0.5,
        "bytes": sum(q.nbytes for q in quantized),
        "elements": sum(matrix.numel() for matrix in matrices),
    }


@contextmanager
def _base(case: Case, torch_device: torch.device, trust_remote_code: bool) -> Iterator[tuple[Any, Case]]:
    """The bare model in fp32, and the case it was built for; large ones bounded, see the constants above."""
    dense = replace(case, quantization="fp32", kbit_preparation=False)
    parameters = sum(
        weight.numel() for weight in build_skeleton(dense, trust_remote_code=trust_remote_code).parameters()
    )
    if parameters <= WHOLE_PARAMETERS:
        yield build_base(dense, torch_device, trust_remote_code=trust_remote_code), dense
    elif case.weights == "random":
        with tempfile.TemporaryDirectory() as folder:
            config = resolve_config(dense, trust_remote_code=trust_remote_code)
            _shorten(config)
            config.save_pretrained(folder)
            few = replace(dense, model=folder, architecture="")
            yield build_base(few, torch_device, trust_remote_code=trust_remote_code), few
    else:
        # In 16 bits, as large checkpoints are published.
        half = replace(dense, quantization="bf16")
        yield build_base(half, torch_device, trust_remote_code=trust_remote_code), half


def _shorten(config: Any) -> None:
    for key in ("num_hidden_layers", "num_decoder_layers"):
        if getattr(config, key, None) is not None:
            setattr(config, key, min(getattr(config, key), FEW_LAYERS))
    if getattr(config, "layer_types", None) is not None:
        config.layer_types = config.layer_types[:FEW_LAYERS]


def _weight(module: Any) -> torch.Tensor:
    """[out, in], fp32: rows are outputs, as bitsandbytes scales them."""
    weight: torch.Tensor = module.weight.detach().float()
    return weight.T.contiguous() if isinstance(module, Conv1D) else weight


def _activations(
    model: nn.Module, modules: Sequence[nn.Module], case: Case, torch_device: torch.device
) -> list[torch.Tensor]:
    """What each module is given in one forward pass, [tokens, in] in fp32."""
    seen: dict[nn.Module, torch.Tensor] = {}

    def keep(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        seen.setdefault(module, inputs[0].detach().flatten(0, -2).float())

    step = replace(
        case,
        task="train",
        data="text" if case.weights == "pretrained" else "random",
        batch_size=1,
        sequence_length=min(case.sequence_length, TOKENS),
        padding=0.0,
    )
    hooks = [module.register_forward_pre_hook(keep) for module in modules]
    try:
        model(**training_inputs(step, model.config, torch_device))
    finally:
        for hook in hooks:
            hook.remove()
    return [seen[module] for module in modules]


def _skewed(seed: int, torch_device: torch.device) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(SKEWED_SHAPE, generator=generator).relu().to(torch_device)
