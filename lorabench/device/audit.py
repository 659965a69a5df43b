"""What CUDA's kernels take beyond their outputs, for the operators whose kernels were read.

An operator outside these tables stops a prediction: its kernel may take memory of its own, and then the prediction
would be too low without a sign of it. To add one, read its kernel in aten/src/ATen/native/cuda and put it in the family
that it belongs to, or give its temporaries a formula.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lorabench.device.attention_audit import ATTENTION
from lorabench.device.fake_quantized.audit import QUANTIZED
from lorabench.device.kernels import Temporaries, nothing, radix_sort_bytes, tensor_bytes
from lorabench.device.predicted_card import predicted_card
from lorabench.device.workspaces import CUBLAS_OPERATORS

_NO_KERNEL = """
aten::alias aten::as_strided aten::detach aten::detach_ aten::expand aten::permute aten::select aten::slice aten::split
aten::split_with_sizes aten::squeeze aten::t aten::transpose aten::unbind aten::unsqueeze aten::view aten::_unsafe_view
aten::empty aten::empty_like aten::empty_strided aten::new_empty aten::new_empty_strided
aten::lift_fresh aten::_local_scalar_dense
profiler::_record_function_enter_new profiler::_record_function_exit
"""
# TensorIterator kernels convert types in registers; random ones take the generator's state by value.
_POINTWISE = """
aten::_to_copy aten::clone aten::copy_ aten::fill_ aten::zero_ aten::full aten::full_like aten::new_zeros
aten::new_ones aten::ones aten::ones_like aten::zeros aten::zeros_like aten::scalar_tensor aten::arange aten::randint
aten::normal_ aten::uniform_ aten::bernoulli_ aten::native_dropout aten::native_dropout_backward aten::add aten::add_
aten::sub aten::sub_ aten::rsub aten::mul aten::mul_ aten::div aten::div_ aten::neg aten::abs aten::sign
aten::remainder aten::pow aten::reciprocal aten::rsqrt aten::sqrt aten::exp aten::log aten::sin aten::cos aten::tanh
aten::tanh_backward aten::relu aten::threshold_backward aten::silu aten::silu_backward aten::gelu aten::gelu_backward
aten::eq aten::ne aten::lt aten::le aten::gt aten::ge aten::bitwise_and aten::bitwise_not aten::bitwise_or
aten::logical_and aten::logical_not aten::where aten::minimum aten::maximum aten::clamp aten::clamp_min
aten::masked_fill aten::masked_fill_ aten::tril aten::triu aten::constant_pad_nd aten::slice_backward
aten::select_backward aten::lerp_ aten::addcmul_ aten::addcdiv_ aten::eye
"""
# Reduce.cuh stages through memory only where one output is shared by several blocks, which happens with few outputs
# (a whole tensor summed to one number): some hundred KiB at most, left out.
_REDUCTIONS = "aten::sum aten::mean aten::all aten::any aten::argmax aten::linalg_vector_norm"
# cat passes its inputs' addresses as kernel arguments, and indexing with int64 indices reads them where they lie (masks
# have results of unknown shapes, which stop a prediction); the others stage in shared memory.
_OTHER = """
aten::cat aten::gather aten::index aten::index_copy aten::index_select aten::embedding aten::_log_softmax
aten::_log_softmax_backward_data aten::_softmax aten::nll_loss_forward aten::nll_loss_backward
"""
# multi_tensor_apply passes addresses as kernel arguments.
_FOREACH = """
aten::_foreach_add_ aten::_foreach_addcdiv_ aten::_foreach_addcmul_ aten::_foreach_div_ aten::_foreach_lerp_
aten::_foreach_mul_ aten::_foreach_sqrt
"""


def _softmax_backward(args: Sequence[Any]) -> list[int]:
    """``grad * output``, made before the kernel runs (aten/src/ATen/native/cuda/SoftMax.cu)."""
    return [tensor_bytes(args[0])]


def _layer_norm_backward(args: Sequence[Any]) -> list[int]:
    """Sums over parts of very many rows, for the gradients of weight and bias.

    Source: ``LaunchGammaBetaBackwardCUDAKernel`` in aten/src/ATen/native/cuda/layer_norm_kernel.cu, with the card's
    multiprocessors and columns in blocks of 32; ``mean``, the fourth argument, has one number a row.
    """
    weight, wanted = args[5], args[7]
    rows, columns = args[3].numel(), args[1].numel() // max(args[3].numel(), 1)
    if weight is None or rows <= 64 * 1024 or columns // 32 >= predicted_card().multiprocessors // 2:
        return []
    parts = min(32 * 1024 // -(-columns // 32), -(-rows // 32))
    return [parts * columns * weight.element_size() for is_wanted in wanted[1:] if is_wanted]


def _isinf(args: Sequence[Any]) -> list[int]:
    """``abs() == inf`` (``isinf`` in aten/src/ATen/native/TensorCompare.cpp)."""
    return [tensor_bytes(args[0])]


def _index_put(args: Sequence[Any]) -> list[int]:
    """Adding up sorts: linear indices, their order, both sorted, and the sort's own two copies. Else nothing.

    Source: ``index_put_with_sort_kernel`` in aten/src/ATen/native/cuda/Indexing.cu.
    """
    indices, accumulates = args[1], len(args) > 3 and args[3]
    if not accumulates:
        return []
    count = max(index.numel() for index in indices if index is not None)
    return [4 * count * 8, radix_sort_bytes(count, 8, args[0].numel())]


_SCAN_STATUS_BYTES = 16
_SCAN_TILE = 1024


def _cumsum(args: Sequence[Any]) -> list[int]:
    """One row alone is scanned by cub, with a status for each tile and 32 more, and 256 bytes to align them.

    Source: ``launch_cumsum_cuda_kernel`` and ``scan_dim`` in aten/src/ATen/native/cuda/ScanUtils.cuh, and cub's
    ``ScanTileState``. The tile is taken small. Several rows stay within their blocks.
    """
    tensor, dim = args[0], args[1]
    if tensor.dim() == 0 or tensor.numel() != tensor.shape[dim]:
        return []
    return [(-(-tensor.numel() // _SCAN_TILE) + 32) * _SCAN_STATUS_BYTES + 256]


DENSE: Mapping[str, Temporaries] = {
    **dict.fromkeys((_NO_KERNEL + _POINTWISE + _REDUCTIONS + _OTHER + _FOREACH).split(), nothing),
    **dict.fromkeys(CUBLAS_OPERATORS, nothing),
    "aten::_softmax_backward_data": _softmax_backward,
    "aten::native_layer_norm_backward": _layer_norm_backward,
    "aten::cumsum": _cumsum,
    "aten::index_put": _index_put,
    "aten::isinf": _isinf,
}

TEMPORARIES: Mapping[str, Temporaries] = {**QUANTIZED, **DENSE, **ATTENTION}
"""Every audited operator, by its name without the overload."""

BORN: Mapping[str, tuple[int, ...]] = {
    # The mask, then what is left (``dropout_cuda`` in aten/src/ATen/native/cuda/Dropout.cu).
    "aten::native_dropout": (1, 0),
    # The generator's state, then what is attended and the row sums (``_scaled_dot_product_cudnn_attention_cuda`` in
    # aten/src/ATen/native/transformers/cuda/attention.cu).
    "aten::_scaled_dot_product_cudnn_attention": (6, 7, 0, 1, 2, 3, 8),
}
"""Which output is made first, second and so on, of operators that do not make them in the order of their schema.

As memory snapshots of training steps on an H100 show it (torch 2.11).
"""
