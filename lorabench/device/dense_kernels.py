"""CUDA kernels that are made of several, with torch's operators: outputs and temporaries in the order of the source.

What runs in place of an operator whose memory is easier told by its steps than by a list of buffers. The kernels that
write to what they are given are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lorabench.device.kernels import radix_sort_bytes, rounded
from lorabench.device.predicted_card import predicted_card
from lorabench.errors import DeviceError

_aten = torch.ops.aten

_FEW_INDICES = 3072
_FP32_BYTES = 4
# Numbers from [0, 1) in fp32 have 24 bits.
_HIGHEST_DRAWN = 1 - 2**-24


def _embedding_dense_backward(
    gradient: Tensor, indices: Tensor, num_weights: int, padding_idx: int, scale_grad_by_freq: bool
) -> Tensor:
    """``embedding_dense_backward_cuda`` in aten/src/ATen/native/cuda/Embedding.cu, EmbeddingBackwardKernel.cu.

    Up to 3072 indices one kernel adds rows up; beyond, indices are sorted and every row of the gradient is summed in
    fp32 into a buffer of as many rows.
    """
    gradient = gradient.contiguous()
    count, columns = indices.numel(), gradient.shape[-1]
    if count <= _FEW_INDICES and not scale_grad_by_freq:
        indices.contiguous()
        return torch.zeros(num_weights, columns, dtype=gradient.dtype)
    sorted_indices, original_indices = torch.empty_like(indices), torch.empty_like(indices)
    positions = torch.empty_like(indices)
    scratch = _bytes(radix_sort_bytes(count, indices.element_size(), num_weights))
    del positions, scratch
    weight = torch.zeros(num_weights, columns, dtype=gradient.dtype)
    # Segments, their counts, their offsets, and those of the parts that they are cut into.
    lists = [torch.empty_like(indices) for _ in range(4)]
    numbers = [torch.empty((), dtype=torch.int64) for _ in range(2)]
    sums = torch.empty(count, columns, dtype=torch.float32)
    del sums, numbers, lists, sorted_indices, original_indices
    return weight


def _native_layer_norm(
    activations: Tensor, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """``layer_norm_cuda`` in aten/src/ATen/native/cuda/layer_norm_kernel.cu: means and deviations of rows in fp32.

    On the CPU they have the activations' dtype, and so have fake tensors there.
    """
    activations = activations.contiguous()
    rows = activations.shape[: activations.dim() - len(shape)]
    kept = (*rows, *(1 for _ in shape))
    out = torch.empty_like(activations)
    mean, deviation = (torch.empty(kept, dtype=torch.float32) for _ in range(2))
    return out, mean, deviation


def _safe_softmax(scores: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    """``_safe_softmax`` in aten/src/ATen/native/transformers/attention.cpp: rows that are masked whole become zero.

    Memory histories of an H100 (torch 2.11) have no copy for it: it is done in place.
    """
    if dtype is not None and scores.dtype != dtype:
        scores = scores.to(dtype)
    result: Tensor = _aten._softmax.default(scores, dim, False)
    lowest = torch.empty((), dtype=result.dtype)
    masked = _aten.eq.Tensor(result, lowest)
    _aten.all.dim(masked, dim, True)
    return result


def _efficient_attention_backward(
    gradient: Tensor | None,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    out: Tensor,
    row_sums: Tensor,
    seed: Tensor,
    offset: Tensor,
    dropout_p: float,
    wanted: Sequence[bool],
    is_causal: bool = False,
    *,
    scale: float | None = None,
) -> tuple[Tensor | None, ...]:
    """``_efficient_attention_backward`` in aten/src/ATen/native/transformers/cuda/attention_backward.cu."""
    if gradient is None:
        return None, None, None, None
    query, key, value, out = (tensor.transpose(1, 2) for tensor in (query, key, value, out))
    gradient = gradient.transpose(1, 2).contiguous()
    grads = [torch.empty(tensor.shape, dtype=tensor.dtype) for tensor in (query, key, value)]
    grad_bias = None
    if wanted[3] and bias is not None:
        columns = bias.shape[-1]
        grad_bias = torch.empty(*bias.shape[:-1], rounded(columns, 16), dtype=bias.dtype)[..., :columns]
    batch, queries, heads, _ = query.shape
    if query.dtype == torch.float32 or not _computes_delta(query, value):
        product = gradient.float() * out.float()
        sums = product.sum(-1)
        delta = sums.transpose(-2, -1).contiguous()
        del product, sums
    else:
        delta = torch.empty(batch, heads, queries, dtype=torch.float32)
    workspace = _bytes(batch * heads * _efficient_workspace_bytes(query, key, value))
    del delta, workspace
    grad_query, grad_key, grad_value = (grad.transpose(1, 2) for grad in grads)
    return grad_query, grad_key, grad_value, grad_bias


def _computes_delta(query: Tensor, value: Tensor) -> bool:
    """``kKernelComputesDelta``, in half precision: on a V100 only if the output stays in registers."""
    size = max(query.shape[-1], value.shape[-1])
    return predicted_card().compute_capability != (7, 0) or all(size <= block for block, _ in _blocks(size, True))


def _blocks(size: int, is_half: bool) -> list[tuple[int, int]]:
    """Queries and keys in a block, of the kernels that may be taken for heads of ``size``.

    The first that fits of ``dispatch_cutlassB`` (mem_eff_attention/kernels/cutlassB.h) is taken. Before Ampere that
    depends on the shared memory that each needs, which is not told there: both are named.
    """
    if predicted_card().compute_capability >= (8, 0):
        return [(64 if size <= 64 else 128, 128 if is_half and 64 < size <= 128 else 64)]
    return [(64, 64)] if size <= 64 else [(128, 64), (64, 64)]


def _efficient_workspace_bytes(query: Tensor, key: Tensor, value: Tensor) -> int:
    """``Params::workspace_strideBH`` of mem_eff_attention/kernel_backward.h for one head of one sequence.

    Each tile of the queries' gradient is summed in fp32, beside a lock and a counter of 16 bytes. In half precision
    with heads that do not fit into registers the gradients of keys and values are staged, too; the number of splits of
    the keys is taken as one a block of keys, which it is at most. Of several kernels that may be taken, the largest.
    """
    batch, queries, heads, head_size = query.shape
    is_half = query.dtype != torch.float32
    size = max(head_size, value.shape[-1])

    def elements(block_i: int, block_j: int) -> int:
        tiles = -(-queries // block_i) * -(-head_size // block_i)
        found = tiles * (4 + block_i * block_i)
        if is_half and size > block_i:
            blocks = -(-key.shape[1] // block_j)
            splits = max(1, min(blocks, 200 // (batch * heads)))
            found += splits * block_j * (rounded(head_size, block_i) + rounded(value.shape[-1], block_i))
        return found

    return rounded(max(elements(*block) for block in _blocks(size, is_half)), 4) * _FP32_BYTES


def _rand(size: Sequence[int], **options: Any) -> Tensor:
    """A single number, by which a model decides what a step leaves out: the highest there is, so that nothing is.

    OPT draws one on the host before each layer, up to transformers 5.22, also where no layer is ever left out.

    Raises:
        DeviceError: there are several.
    """
    if size:
        raise DeviceError(f"aten.rand of shape {list(size)} was not audited, so it cannot be predicted yet")
    return torch.tensor(_HIGHEST_DRAWN)


def _bytes(count: int) -> Tensor:
    return torch.empty(count, dtype=torch.uint8)


KERNELS: Mapping[Any, Callable[..., Any]] = {
    _aten.embedding_dense_backward.default: _embedding_dense_backward,
    _aten.native_layer_norm.default: _native_layer_norm,
    _aten.rand.default: _rand,
    _aten._safe_softmax.default: _safe_softmax,
    _aten._scaled_dot_product_efficient_attention_backward.default: _efficient_attention_backward,
}
"""By the operator whose place they take."""
