"""What CUDA's fused attention kernels take beyond their outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lorabench.device.kernels import Temporaries, rounded
from lorabench.device.predicted_card import predicted_card

_CUDNN_ENGINE_BYTES = 256
"""What cuDNN's engine for attention takes besides its graph's tensors: not told anywhere.

Memory snapshots of training steps on an H100 have it in every call (torch 2.11, cuDNN 9.19; heads of 64, length 512).
"""

_CUDNN_PARTS = 4

_LARGEST_HEAD_IN_REGISTERS = 128


def _flash_attention(args: Sequence[Any]) -> list[int]:
    """The accumulators of split keys, for queries too few to fill the card.

    Source: ``set_params_splitkv`` and ``num_splits_heuristic`` in
    aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp, with the card's multiprocessors. The number of
    splits is taken as the highest it can be, one for each block of keys.
    """
    query, key = args[0], args[1]
    batch, heads, queries, head_size = query.shape
    if batch * heads * -(-queries // 64) >= 0.8 * 2 * predicted_card().multiprocessors:
        return []
    key_block = 256 if head_size <= 64 else 128 if head_size <= 128 else 64
    splits = min(128, -(-key.shape[2] // key_block))
    if splits == 1:
        return []
    fp32 = 4
    return [
        splits * batch * heads * queries * fp32,
        splits * batch * heads * queries * _head_size_rounded(head_size) * fp32,
    ]


def _flash_attention_backward(args: Sequence[Any]) -> list[int]:
    """Row sums and the queries' gradient in fp32, and with grouped keys their gradients for every query head.

    Source: ``mha_bwd`` in aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp. On an H100 PyTorch may
    choose cuDNN's kernel instead: it saves the same tensors, and has a workspace in place of these.
    """
    query, key = args[1], args[2]
    batch, heads, queries, head_size = query.shape
    rows = batch * heads * rounded(queries, 128)
    fp32 = 4
    temporaries = [rows * fp32, rows * _head_size_rounded(head_size) * fp32]
    if key.shape[1] != heads:
        temporaries += 2 * [batch * key.shape[2] * heads * head_size * key.element_size()]
    return temporaries


def _head_size_rounded(head_size: int) -> int:
    return rounded(head_size, 32 if head_size <= 128 else 64)


def _cudnn_attention_backward(args: Sequence[Any]) -> list[int]:
    """The workspace of cuDNN's backward graph, which is one buffer: what flash attention takes in several.

    Row sums and the queries' gradient in fp32, and with grouped keys their gradients for every query head
    (``dQ_accum``, ``softmax_sum``, ``dK_fullhead`` and ``dV_fullhead`` in cudnn_frontend's
    node/scaled_dot_product_flash_attention.h), and what the engine adds to it.
    """
    return [sum(_flash_attention_backward(args)) + _CUDNN_ENGINE_BYTES]


def _cudnn_attention(args: Sequence[Any]) -> list[int]:
    """The workspace of cuDNN's forward graph; for one query, the keys are split and each part's result is kept.

    Not told anywhere: memory histories of an H100 have four parts, each with its output, sum and maximum in fp32
    (batches of 1 and of 8, heads of 64, 512 to 544 keys; torch 2.11, cuDNN 9.19).
    """
    batch, heads, queries, head_size = args[0].shape
    if queries > 1:
        return [_CUDNN_ENGINE_BYTES]
    fp32 = 4
    return [_CUDNN_PARTS * batch * heads * (head_size + 2) * fp32 + _CUDNN_ENGINE_BYTES // 2]


def _cudnn_not_held(args: Sequence[Any]) -> tuple[int, ...]:
    """Row sums are made only where they are asked for.

    Source: ``run_cudnn_SDP_fprop`` in aten/src/ATen/native/cudnn/MHA.cpp.
    """
    return () if args[4] else (1,)


def _efficient_attention(args: Sequence[Any]) -> list[int]:
    """In half precision the output is summed in fp32: in registers, for heads of more than 128 in a buffer.

    Source: ``kNeedsOutputAccumulatorBuffer`` in transformers/cuda/mem_eff_attention/kernel_forward.h.
    """
    query, value = args[0], args[2]
    batch, heads, queries, _ = query.shape
    fp32 = 4
    if query.element_size() == fp32 or value.shape[-1] <= _LARGEST_HEAD_IN_REGISTERS:
        return []
    return [batch * queries * heads * value.shape[-1] * fp32]


def _efficient_not_held(args: Sequence[Any]) -> tuple[int, ...]:
    """Seed and offset lie on the host ("Seed and Offset Device" in transformers/cuda/attention.cu)."""
    return (2, 3)


NOT_HELD: Mapping[str, Callable[[Sequence[Any]], tuple[int, ...]]] = {
    "aten::_scaled_dot_product_cudnn_attention": _cudnn_not_held,
    "aten::_scaled_dot_product_efficient_attention": _efficient_not_held,
}
"""Which outputs take no memory of the device, from the operator's positional arguments."""

ATTENTION: Mapping[str, Temporaries] = {
    "aten::_scaled_dot_product_cudnn_attention": _cudnn_attention,
    "aten::_scaled_dot_product_cudnn_attention_backward": _cudnn_attention_backward,
    "aten::_scaled_dot_product_efficient_attention": _efficient_attention,
    "aten::_scaled_dot_product_flash_attention": _flash_attention,
    "aten::_scaled_dot_product_flash_attention_backward": _flash_attention_backward,
}
