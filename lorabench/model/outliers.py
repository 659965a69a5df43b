"""The share of outlier columns in the input of each int8 layer, for predictions: derived, or measured on real weights.

A column of a layer's input [rows, columns] is split off as soon as one row's value reaches the threshold t. If a value
does so with probability p, independently in each row, a column is split off with probability 1 - (1 - p) ** rows.
Random weights say what p is. All weights are independent and of mean 0, so that a layer's outputs are close to normal:

- **After a normalisation** (the inputs of query, key, value, and of the first layers of an MLP) a row has mean square 1
  and its values are close to N(0, 1): p = P(|z| >= t), which is 2e-9 at t = 6.
- **In an MLP's second layer** the input is act(g), or act(g) * u where it is gated, with g and u independent
  N(0, s ** 2) and s ** 2 = columns of the first layer x variance of its weights: s = 0.91 in Llama-3.2-1B and 1.28 in
  Llama-2-7B. p is integrated over g; the chance of u given g is a normal tail. s varies from column to column as the
  norm of a weight's row does, with a relative standard deviation of 1 / sqrt(2 x columns of the first layer), and the
  mean of the column's probability is taken over that.
- **After attention** the input is a mean of values, each N(0, s ** 2) with the s of the value projection: of one value
  in a sequence's first row, which is the largest that it gets. p is that of the first row, and the rows are as many as
  sequences; the later rows' means are smaller by the root of their number.

Rows are not independent altogether: means over a sequence's past have much in common. That leaves more columns without
an outlier, so what is derived errs on the high side (measured on an H100 at t = 6 in Llama-3.2-1B: 2.4% of down_proj's
columns in 512 rows where this derives 2.5%, 9.1% in 2048 rows where it derives 9.7%, and nothing elsewhere; on an H200
in Llama-2-7B: 78% in 512 rows where this derives 82%, 99.7% in 2048 rows where it derives 99.9%).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from bitsandbytes.nn import Linear8bitLt
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes
from transformers import PreTrainedModel
from transformers.activations import ACT2FN
from transformers.pytorch_utils import Conv1D

from lorabench.case import Case
from lorabench.device.fake_quantized.outliers import outlier_share, set_outlier_share
from lorabench.errors import DeviceError
from lorabench.model.observation import base_name, layers_of
from lorabench.model.weights import writers

_AFTER_ATTENTION = ("o_proj", "out_proj", "o", "attn.c_proj", "attention.output.dense", "attention.dense")
_VALUES = ("v_proj", "v", "attn.c_attn", "self.value")
_SAMPLED_ROWS = 64
"""Rows of a weight that its spread is taken from."""
_POINTS = 2001
"""Of the integral over g, from -9 to 9 standard deviations."""
# Gauss and Hermite's rule for a normal variable with three points: their places and weights.
_HERMITE = ((-math.sqrt(3), 1 / 6), (0.0, 2 / 3), (math.sqrt(3), 1 / 6))


def derived_shares(skeleton: PreTrainedModel, case: Case) -> dict[str, float]:
    """By the name of each linear layer in the dense model's blocks, for all rows of the case; see the module's text.

    Args:
        skeleton: the dense model on the meta device.

    Raises:
        DeviceError: a block's MLP is not understood; one line.
    """
    shares: dict[str, float] = {}
    known: dict[tuple[str, int], float] = {}
    for block_name, block in layers_of(skeleton).items():
        for name, module in _linear_layers(block).items():
            # Blocks are alike: what was derived for one holds for the next.
            place = (name, _features(module)[0])
            if place not in known:
                known[place] = _share(skeleton, case, block_name, name)
            shares[f"{block_name}.{name}"] = known[place]
    return shares


@torch.no_grad()
def measured_shares(dense: PreTrainedModel, case: Case) -> dict[str, float]:
    """By the name of each linear layer in the blocks of ``dense``, which holds values: run on one sequence.

    The sequence is of random token ids, ``case.sequence_length`` of them; its rows are those of the shares.
    """
    shares: dict[str, float] = {}

    def reader(name: str) -> Callable[..., None]:
        def read(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            # As int8_vectorwise_quant looks for them: in fp16, any row of a column.
            rows = inputs[0].to(torch.float16).flatten(0, -2)
            shares[name] = float((rows.abs() >= case.int8_threshold).any(dim=0).float().mean())

        return read

    hooks = [
        module.register_forward_pre_hook(reader(f"{block_name}.{name}"))
        for block_name, block in layers_of(dense).items()
        for name, module in _linear_layers(block).items()
    ]
    generator = torch.Generator().manual_seed(case.seed)
    vocabulary = dense.config.get_text_config().vocab_size
    ids = torch.randint(vocabulary, (1, case.sequence_length), generator=generator)
    decoder = {"decoder_input_ids": ids} if dense.config.is_encoder_decoder else {}
    dense.eval()(input_ids=ids, **decoder)
    for hook in hooks:
        hook.remove()
    return shares


def set_shares(model: PreTrainedModel, shares: Mapping[str, float], rows: int) -> None:
    """Give each int8 layer of ``model`` its share for inputs of ``rows`` rows; a layer without one stays without."""
    for name, module in model.named_modules():
        if isinstance(module, Linear8bitLt) and name in shares:
            set_outlier_share(module.state, shares[name], rows)


def assumed_shares(model: nn.Module) -> dict[str, float]:
    """What a prediction took for the int8 layers that have a threshold, by their names in the bare model."""
    found = {
        base_name(name): outlier_share(module.state)
        for name, module in model.named_modules()
        if isinstance(module, Linear8bitLt) and module.state.threshold > 0
    }
    return {name: share for name, share in found.items() if share is not None}


def _share(skeleton: PreTrainedModel, case: Case, block_name: str, name: str) -> float:
    threshold, rows = case.int8_threshold, case.batch_size * case.sequence_length
    block = skeleton.get_submodule(block_name)
    layers = _linear_layers(block)
    columns = _features(layers[name])[0]
    if _ends(name, _AFTER_ATTENTION):
        values = [other for other in layers if _ends(other, _VALUES)]
        if not values:
            raise _not_understood(skeleton, f"{block_name}.{name}")
        s = _spread(skeleton, f"{block_name}.{values[0]}", layers[values[0]])
        return _whole_columns(_tail(threshold / s), case.batch_size, columns)
    first = [other for other, module in layers.items() if _is_first(module, columns) and other != name]
    if not _is_second(layers[name], skeleton):
        return _whole_columns(_tail(threshold), rows, columns)
    if len(first) not in (1, 2):
        raise _not_understood(skeleton, f"{block_name}.{name}")
    s = _spread(skeleton, f"{block_name}.{first[0]}", layers[first[0]])
    varies = 1 / math.sqrt(2 * _features(layers[first[0]])[0])
    activation = _activation(skeleton)
    share = 0.0
    for place, weight in _HERMITE:
        for other_place, other_weight in _HERMITE:
            gate, up = s * (1 + place * varies), s * (1 + other_place * varies)
            p = _product_tail(activation, gate, up if len(first) == 2 else None, threshold)
            share += weight * other_weight * (1 - (1 - p) ** rows)
    return round(share * columns) / columns


def _whole_columns(p: float, rows: int, columns: int) -> float:
    share = -math.expm1(rows * math.log1p(-p))
    return round(share * columns) / columns


def _tail(z: float) -> float:
    """P(|Z| >= z) of a normal Z."""
    return math.erfc(z / math.sqrt(2))


def _product_tail(
    activation: Callable[[torch.Tensor], torch.Tensor], gate: float, up: float | None, threshold: float
) -> float:
    """P(|act(g) u| >= threshold), or P(|act(g)| >= threshold) without u, for g ~ N(0, gate ** 2), u ~ N(0, up ** 2)."""
    with _disable_current_modes():
        z = torch.linspace(-9, 9, _POINTS, dtype=torch.float64)
        density = torch.exp(-z.square() / 2)
        activated = activation(z * gate).abs()
        if up is None:
            tails = (activated >= threshold).double()
        else:
            tails = torch.erfc(threshold / (activated * up * math.sqrt(2)).clamp(min=1e-300))
        return float((density * tails).sum() / density.sum())


def _spread(skeleton: PreTrainedModel, name: str, module: nn.Module) -> float:
    """Standard deviation of the layer's outputs for an input of mean square 1, with the model's own initialisation."""
    ingoing = _features(module)[0]
    shape = (ingoing, _SAMPLED_ROWS) if isinstance(module, Conv1D) else (_SAMPLED_ROWS, ingoing)
    original = module.weight
    with _disable_current_modes(), torch.no_grad():
        generator_state = torch.get_rng_state()
        torch.manual_seed(0)
        weight = nn.Parameter(torch.zeros(shape), requires_grad=False)
        module.weight = weight
        try:
            for owner, initialise in writers(skeleton, name):
                initialise(owner)
        finally:
            module.weight = original
            torch.set_rng_state(generator_state)
        return math.sqrt(ingoing) * float(weight.std())


def _activation(skeleton: PreTrainedModel) -> Callable[[torch.Tensor], torch.Tensor]:
    config = skeleton.config
    names = [getattr(config, key, None) for key in ("hidden_act", "hidden_activation", "activation_function")]
    names.append(getattr(config, "dense_act_fn", None))
    found = next((name for name in names if isinstance(name, str)), None)
    if found is None:
        raise _not_understood(skeleton, "its activation function")
    activation: Callable[[torch.Tensor], torch.Tensor] = ACT2FN[found]
    return activation


def _is_second(module: nn.Module, skeleton: PreTrainedModel) -> bool:
    """Whether it leads from an MLP's inside back to the residual stream."""
    hidden: int = skeleton.config.hidden_size
    ingoing, outgoing = _features(module)
    return ingoing != hidden and outgoing == hidden


def _is_first(module: nn.Module, inside: int) -> bool:
    return _features(module)[1] == inside


def _linear_layers(block: nn.Module) -> dict[str, nn.Module]:
    return {name: module for name, module in block.named_modules() if isinstance(module, (nn.Linear, Conv1D))}


def _features(module: nn.Module) -> tuple[int, int]:
    if isinstance(module, Conv1D):
        return module.nx, module.nf
    assert isinstance(module, nn.Linear)
    return module.in_features, module.out_features


def _ends(name: str, endings: tuple[str, ...]) -> bool:
    return any(name == ending or name.endswith(f".{ending}") for ending in endings)


def _not_understood(skeleton: PreTrainedModel, what: str) -> DeviceError:
    return DeviceError(
        f"int8_threshold: the outlier columns of {type(skeleton).__name__} cannot be derived ({what} is not "
        "understood); use int8_threshold: 0, or give a share"
    )
