"""What CUDA's kernels take beyond their outputs, for the operators whose kernels were read.

An operator outside these tables stops a prediction: its kernel may take memory of its own, and then the prediction
would be too low without a sign of it. To add one, read its kernel in aten/src/ATen/native/cuda and put it in the family
that it belongs to, or give its temporaries a formula.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

Temporaries = Callable[[Sequence[Any]], list[int]]
"""The bytes of each buffer that a kernel takes and gives back, from the operator's positional arguments."""

_NO_KERNEL = """
aten::alias aten::as_strided aten::detach aten::expand aten::permute aten::select aten::slice aten::split
aten::split_with_sizes aten::squeeze aten::t aten::transpose aten::unbind aten::unsqueeze aten::view aten::_unsafe_view
aten::empty aten::empty_like aten::empty_strided aten::new_empty aten::lift_fresh aten::_local_scalar_dense
profiler::_record_function_enter_new profiler::_record_function_exit
"""
# TensorIterator kernels convert types in registers; random ones take the generator's state by value.
_POINTWISE = """
aten::_to_copy aten::clone aten::copy_ aten::fill_ aten::zero_ aten::full aten::ones aten::ones_like aten::zeros
aten::zeros_like aten::arange aten::randint aten::normal_ aten::uniform_ aten::add aten::add_ aten::sub aten::rsub
aten::mul aten::mul_ aten::div aten::neg aten::pow aten::reciprocal aten::rsqrt aten::sqrt aten::exp aten::sin
aten::cos aten::silu aten::silu_backward aten::gelu aten::gelu_backward aten::eq aten::ne aten::lt aten::le aten::gt
aten::ge aten::bitwise_and aten::bitwise_not aten::bitwise_or aten::logical_and aten::logical_not aten::where
aten::constant_pad_nd aten::slice_backward aten::lerp_ aten::addcmul_ aten::addcdiv_
"""
# Reduce.cuh stages through memory only where one output is shared by several blocks, which happens with few outputs
# (a whole tensor summed to one number): some hundred KiB at most, left out.
_REDUCTIONS = "aten::sum aten::mean"
# cat passes its inputs' addresses as kernel arguments; the others stage in shared memory.
_OTHER = """
aten::cat aten::embedding aten::_log_softmax aten::_log_softmax_backward_data aten::_softmax
aten::nll_loss_forward aten::nll_loss_backward
"""
# multi_tensor_apply passes addresses as kernel arguments.
_FOREACH = """
aten::_foreach_add_ aten::_foreach_addcdiv_ aten::_foreach_addcmul_ aten::_foreach_div_ aten::_foreach_lerp_
aten::_foreach_mul_ aten::_foreach_sqrt
"""

CUBLAS_OPERATORS = frozenset({"aten::mm", "aten::bmm", "aten::baddbmm"})
"""Matrix products: the first that a thread runs makes its cuBLAS workspace, which is kept.

Not addmm: with a bias it goes to cuBLASLt, whose workspace is the same or another, by version and environment.
"""


def cublas_workspace_bytes(compute_capability: tuple[int, int]) -> int:
    """``:4096:8`` KiB, which is 32 MiB, on Hopper and ``:4096:2:16:8`` before it.

    Source: ``parseChosenWorkspaceSize`` in aten/src/ATen/cuda/CublasHandlePool.cpp.
    """
    kib = 4096 * 8 if compute_capability >= (9, 0) else 4096 * 2 + 16 * 8
    return kib << 10


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _rounded(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple


def _softmax_backward(args: Sequence[Any]) -> list[int]:
    """``grad * output``, made before the kernel runs (aten/src/ATen/native/cuda/SoftMax.cu)."""
    return [_bytes(args[0])]


def _flash_attention(args: Sequence[Any]) -> list[int]:
    """The accumulators of split keys, for queries too few to fill the card.

    Source: ``set_params_splitkv`` and ``num_splits_heuristic`` in
    aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp, with an H100's 132 multiprocessors. The number of
    splits is taken as the highest it can be, one for each block of keys.
    """
    query, key = args[0], args[1]
    batch, heads, queries, head_size = query.shape
    if batch * heads * -(-queries // 64) >= 0.8 * 2 * 132:
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
    rows = batch * heads * _rounded(queries, 128)
    fp32 = 4
    temporaries = [rows * fp32, rows * _head_size_rounded(head_size) * fp32]
    if key.shape[1] != heads:
        temporaries += 2 * [batch * key.shape[2] * heads * head_size * key.element_size()]
    return temporaries


def _head_size_rounded(head_size: int) -> int:
    return _rounded(head_size, 32 if head_size <= 128 else 64)


def _nothing(args: Sequence[Any]) -> list[int]:
    return []


TEMPORARIES: Mapping[str, Temporaries] = {
    **dict.fromkeys((_NO_KERNEL + _POINTWISE + _REDUCTIONS + _OTHER + _FOREACH).split(), _nothing),
    **dict.fromkeys(CUBLAS_OPERATORS, _nothing),
    "aten::_softmax_backward_data": _softmax_backward,
    "aten::_scaled_dot_product_flash_attention": _flash_attention,
    "aten::_scaled_dot_product_flash_attention_backward": _flash_attention_backward,
}
"""Every audited operator, by its name without the overload."""
