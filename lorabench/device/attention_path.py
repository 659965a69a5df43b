"""What ``scaled_dot_product_attention`` comes to on CUDA: which kernel is chosen, and what happens around it.

A CPU build of torch chooses among the CPU's kernels, so the choice of ``select_sdp_backend`` in
aten/src/ATen/native/transformers/cuda/sdp_utils.cpp is repeated here, and what
``scaled_dot_product_attention`` in aten/src/ATen/native/transformers/attention.cpp does before and after each kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lorabench.device.predicted_card import predicted_card
from lorabench.errors import DeviceError

Kernel = Literal["cudnn", "flash", "efficient", "math"]
Capability = tuple[int, int]

_HALF = (torch.float16, torch.bfloat16)
_CUDNN_HEAD_LIMIT = 128
_CUDNN_HEAD_LIMIT_OF_HOPPER = 256
_CUDNN_LOWEST = -65504.0
"""What cuDNN's kernel is given for minus infinity (``convert_boolean_attn_mask_cudnn``)."""
_FLASH_HEAD_LIMIT = 256
_FLASH_ALIGNMENT = 8
_MASK_ALIGNMENT = 8


@dataclass(frozen=True)
class AttentionCall:
    """The arguments on which the choice depends; tensors are [batch, heads, length, head size]."""

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    dropout_p: float
    is_causal: bool
    enable_gqa: bool


def choose_kernel(call: AttentionCall, capability: Capability) -> Kernel:
    """The first kernel of the card's order of preference that takes the call.

    cuDNN comes first on compute capability 9 and 10 (``check_prefer_cudnn_attention``, torch 2.11 with the cuDNN that
    it brings), and is not asked before flash attention elsewhere, which takes all that cuDNN's would without a mask.
    """
    if capability[0] in (9, 10) and _fits_cudnn(call, capability):
        return "cudnn"
    if _fits_flash(call, capability):
        return "flash"
    if _fits_efficient(call, capability):
        return "efficient"
    return "math"


def _heads_fit(call: AttentionCall, *, grouped: bool) -> bool:
    """``check_batch_size_and_num_heads_dense``."""
    heads = call.query.shape[1]
    others = call.key.shape[1], call.value.shape[1]
    if call.enable_gqa and grouped:
        return all(heads % other == 0 for other in others)
    return all(other == heads for other in others)


def _fits_cudnn(call: AttentionCall, capability: Capability) -> bool:
    """``can_use_cudnn_attention``, with cuDNN 9.10 or later, as torch 2.11 brings it.

    A mask that trains has no gradient there (``check_attn_mask_shape``).
    """
    query, mask = call.query, call.mask
    head_limit = _CUDNN_HEAD_LIMIT_OF_HOPPER if capability == (9, 0) else _CUDNN_HEAD_LIMIT
    sizes = query.shape[-1], call.value.shape[-1]
    return (
        query.dim() == 4
        and query.dtype in _HALF
        and all(size <= head_limit and size % 8 == 0 for size in sizes)
        and call.key.shape[2] != 1
        and (call.dropout_p == 0 or query.shape[2] != 1)
        and _heads_fit(call, grouped=True)
        and _rows_are_whole(call)
        and (mask is None or (not mask.requires_grad and _mask_fits(call, mask)))
    )


def _rows_are_whole(call: AttentionCall) -> bool:
    """``check_last_dim_stride_equals_1_dense``: T5's bias, [heads, query, key] seen through a permutation, is not."""
    tensors = (call.query, call.key, call.value, *(() if call.mask is None else (call.mask,)))
    return all(tensor.stride(-1) == 1 for tensor in tensors)


def _mask_fits(call: AttentionCall, mask: Tensor) -> bool:
    """``check_attn_mask_shape``: 2 or 4 dimensions, each the attention's or one."""
    wanted = (*call.query.shape[:3], call.key.shape[2])
    return mask.dim() in (2, 4) and all(
        size in (1, full) for size, full in zip(mask.shape, wanted[-mask.dim() :], strict=True)
    )


def _fits_flash(call: AttentionCall, capability: Capability) -> bool:
    """``can_use_flash_attention``; other head sizes are padded first."""
    query, key = call.query, call.key
    return (
        capability >= (8, 0)
        and query.dim() == 4
        and query.dtype in _HALF
        and call.mask is None
        and query.shape[-1] == key.shape[-1] == call.value.shape[-1] <= _FLASH_HEAD_LIMIT
        and (not call.is_causal or query.shape[2] == key.shape[2])
        and _heads_fit(call, grouped=True)
        and _rows_are_whole(call)
    )


def _fits_efficient(call: AttentionCall, capability: Capability) -> bool:
    """``can_use_mem_efficient_attention``: no grouped queries, and bf16 from compute capability 8 on."""
    query = call.query
    is_half = query.dtype in _HALF
    dtypes = (torch.float16, torch.float32, *((torch.bfloat16,) if capability >= (8, 0) else ()))
    uses_tensor_cores = capability >= (8, 0) or is_half
    alignment = max(4 if capability >= (8, 0) else 1, (8 if is_half else 4) if uses_tensor_cores else 1)
    return (
        query.dim() == 4
        and query.dtype in dtypes
        and query.shape[-1] % alignment == 0
        and call.value.shape[-1] % alignment == 0
        and _rows_are_whole(call)
        and _heads_fit(call, grouped=False)
    )


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """torch's function as the predicted card runs it."""
    call = AttentionCall(query, key, value, attn_mask, dropout_p, is_causal, enable_gqa)
    return _RUN[choose_kernel(call, predicted_card().compute_capability)](call, scale)


def _needs_row_sums(call: AttentionCall) -> bool:
    """``should_compute_logsumexp``."""
    trained = any(tensor.requires_grad for tensor in (call.query, call.key, call.value))
    return trained and torch.is_grad_enabled()


def _additive(mask: Tensor | None, dtype: torch.dtype, lowest: float) -> Tensor | None:
    """``convert_boolean_attn_mask``: what is added to the scores, made anew in each layer."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.where(mask, 0.0, torch.ops.aten.scalar_tensor(lowest, dtype=dtype))


def _cudnn(call: AttentionCall, scale: float | None) -> Tensor:
    attended: Tensor = torch.ops.aten._scaled_dot_product_cudnn_attention(
        call.query,
        call.key,
        call.value,
        _additive(call.mask, call.query.dtype, _CUDNN_LOWEST),
        _needs_row_sums(call),
        call.dropout_p,
        call.is_causal,
        False,
        scale=scale,
    )[0]
    return attended


def _flash(call: AttentionCall, scale: float | None) -> Tensor:
    size = call.query.shape[-1]
    padding = -size % _FLASH_ALIGNMENT
    query, key, value = (
        torch.nn.functional.pad(tensor, (0, padding)) if padding else tensor
        for tensor in (call.query, call.key, call.value)
    )
    if scale is None:
        scale = 1 / math.sqrt(size)
    attended: Tensor = torch.ops.aten._scaled_dot_product_flash_attention(
        query, key, value, call.dropout_p, call.is_causal, False, scale=scale
    )[0]
    return attended[..., :size] if padding else attended


def _efficient(call: AttentionCall, scale: float | None) -> Tensor:
    bias = _additive(call.mask, call.query.dtype, -math.inf)
    if bias is not None:
        bias = _aligned(bias).expand(*call.query.shape[:3], call.key.shape[2])
    attended: Tensor = torch.ops.aten._scaled_dot_product_efficient_attention(
        call.query, call.key, call.value, bias, _needs_row_sums(call), call.dropout_p, call.is_causal, scale=scale
    )[0]
    return attended


def _aligned(bias: Tensor) -> Tensor:
    """``preprocess_mask``: rows that do not start at a multiple of 8 are copied to longer ones."""
    strides = bias.stride()
    if strides[-1] == 1 and all(stride % _MASK_ALIGNMENT == 0 for stride in strides[:-1]):
        return bias
    columns = bias.shape[-1]
    return torch.nn.functional.pad(bias, (0, _MASK_ALIGNMENT - columns % _MASK_ALIGNMENT))[..., :columns]


def _math(call: AttentionCall, scale: float | None) -> Tensor:
    """``_scaled_dot_product_attention_math``, operator by operator.

    torch's own function adds the mask out of place where tensors are fake, which on CUDA it does in place.
    """
    dtype = call.query.dtype
    if scale is not None and scale < 0:
        raise DeviceError("attention with a negative scale is not predicted")
    factor = math.sqrt(1 / math.sqrt(call.query.shape[-1]) if scale is None else scale)
    # All that has a name here lives until the function returns, as it does there.
    accurate = [tensor.float() if dtype in _HALF else tensor for tensor in (call.query, call.key, call.value)]
    query = torch.ops.aten.mul.Scalar(accurate[0], factor)
    mask = _additive(call.mask, query.dtype, -math.inf)
    if call.is_causal:
        allowed = torch.ones(query.shape[-2], call.key.shape[-2], dtype=torch.bool).tril()
        mask = _additive(allowed, query.dtype, -math.inf)
    key, value = (_repeated(tensor, query) if call.enable_gqa else tensor for tensor in accurate[1:])
    scores = torch.matmul(query, torch.ops.aten.mul.Scalar(key.transpose(-2, -1), factor))
    if mask is not None:
        scores.add_(mask)
    scores = torch.ops.aten._safe_softmax(scores, -1)
    if call.dropout_p > 0:
        # One kernel on CUDA, with a byte an element for its mask (``dropout`` in aten/src/ATen/native/Dropout.cpp).
        scores = torch.native_dropout(scores, call.dropout_p, True)[0]
    # The weights are returned too, though nobody asks for them: converted before the product, given up last.
    weights = scores.to(dtype)
    attended = torch.matmul(scores, value).to(dtype)
    del query, key, value, scores, mask, accurate
    del weights
    return attended


def _repeated(tensor: Tensor, query: Tensor) -> Tensor:
    """``pre_process_group_query_attention_input``."""
    times = query.shape[-3] // tensor.shape[-3]
    return tensor if times == 1 else tensor.repeat_interleave(times, -3)


_RUN: dict[Kernel, Callable[[AttentionCall, float | None], Tensor]] = {
    "cudnn": _cudnn,
    "flash": _flash,
    "efficient": _efficient,
    "math": _math,
}
