"""bitsandbytes' operators as its CUDA kernels allocate: outputs and temporaries, taken and given back in their order.

Each function follows the kernel of the same name in bitsandbytes/backends/cuda/ops.py, or where CUDA has none of its
own the one in backends/default/ops.py or _ops.py, line by line, with torch's operators. The calls into the compiled
library are left out: they write to what they are given. cuBLASLt gets no workspace from torch there (``cigemmlt_32``
in csrc/ops.cu passes none), and its handle is not in torch's allocator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import bitsandbytes  # noqa: F401  (defines the operators)
import torch
from torch import Tensor

from lorabench.device.fake_quantized.gemm_4bit import takes_custom_kernel
from lorabench.device.fake_quantized.outliers import outlier_columns

_ops = torch.ops.bitsandbytes


def _int8_vectorwise_quant(activations: Tensor, threshold: float = 0.0) -> tuple[Tensor, Tensor, Tensor | None]:
    columns = activations.shape[-1]
    rows = activations.numel() // columns
    row_stats = torch.empty(rows, dtype=torch.float32)
    quantized = torch.empty(activations.shape, dtype=torch.int8)
    outlier_cols = None
    if threshold > 0.0:
        # Stays until the kernel returns: it is a local variable there.
        outliers = activations.abs() >= threshold
        count = outlier_columns(rows, columns)
        any_outlier = torch.empty((), dtype=torch.bool)
        del any_outlier
        if count:
            any_outlier = torch.empty(columns, dtype=torch.bool)
            outlier_cols = torch.empty(count, 1, dtype=torch.int64).view(-1)
            del any_outlier
        else:
            outlier_cols = torch.empty(0, dtype=torch.int64)
        if rows > 1:
            # The zero that is written to them: a tensor of its own on the device.
            torch.empty((), dtype=torch.int8)
        del outliers
    return quantized, row_stats, outlier_cols


def _int8_double_quant(
    activations: Tensor, threshold: float = 0.0
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    quantized, row_stats, outlier_cols = _ops.int8_vectorwise_quant.default(activations, threshold=threshold)
    magnitudes = activations.abs().view(-1, activations.shape[-1])
    mask = None
    if threshold > 0.0:
        mask = magnitudes >= threshold
        magnitudes.masked_fill_(mask, 0.0)
    col_stats = magnitudes.amax(dim=0, keepdim=False).float()
    del magnitudes
    if mask is not None:
        activations = activations.masked_fill(mask, 0.0)
    quantized_columns = torch.round(activations.mul(127.0) / col_stats.unsqueeze(0)).to(torch.int8)
    return quantized, quantized_columns, row_stats, col_stats.flatten().float(), outlier_cols


def _int8_linear_matmul(activations: Tensor, weight: Tensor) -> Tensor:
    out = torch.empty((*activations.shape[:-1], weight.shape[0]), dtype=torch.int32)
    if weight.shape[-1] % 4 != 0:
        # cuBLASLt has no such product; the kernel falls back to one in fp32.
        out.copy_(torch.matmul(activations.float(), weight.float().t()).to(torch.int32))
    return out


def _int8_mm_dequant(
    product: Tensor,
    row_stats: Tensor,
    col_stats: Tensor,
    dtype: torch.dtype | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    out = torch.empty_like(product, dtype=torch.float16)
    if bias is not None and bias.dtype != torch.float16:
        out.add_(bias)
    return out.to(dtype or torch.float16)


def _int8_scaled_mm(
    activations: Tensor,
    weight: Tensor,
    row_stats: Tensor,
    col_stats: Tensor,
    bias: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    product = _ops.int8_linear_matmul.default(activations, weight)
    out: Tensor = _ops.int8_mm_dequant.default(product, row_stats, col_stats, dtype=dtype or torch.float16, bias=bias)
    return out


def _int8_mixed_scaled_mm(
    activations: Tensor,
    quantized: Tensor,
    weight: Tensor,
    row_stats: Tensor,
    col_stats: Tensor,
    outlier_cols: Tensor | None = None,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    if outlier_cols is not None and outlier_cols.numel():
        count = outlier_cols.numel()
        outlier_inputs = torch.empty(activations.shape[0], count, dtype=activations.dtype)
        columns = torch.empty(weight.shape[0], count, dtype=torch.int8)
        dequantized = _ops.int8_vectorwise_dequant.default(columns, col_stats)
        del columns
        outlier_weight = dequantized.to(activations.dtype).t()
        del dequantized
    else:
        outlier_inputs, outlier_weight = torch.empty(0, dtype=activations.dtype), None
    output = _ops.int8_scaled_mm.default(quantized, weight, row_stats, col_stats, bias=bias, dtype=activations.dtype)
    if outlier_weight is not None:
        # output.addmm(...): as its bias is no vector, it is cuBLAS's product into a tensor of its own, like this one.
        output = torch.mm(outlier_inputs, outlier_weight)
    return output, outlier_inputs


def _int8_vectorwise_dequant(quantized: Tensor, stats: Tensor) -> Tensor:
    return quantized * stats.view(-1, 1) * (1 / 127)


def _quantize_blockwise(values: Tensor, code: Tensor, blocksize: int) -> tuple[Tensor, Tensor]:
    values = values.contiguous()
    absmax = torch.empty(-(-values.numel() // blocksize), dtype=torch.float32)
    return torch.empty_like(values, dtype=torch.uint8), absmax


def _dequantize_blockwise(
    quantized: Tensor, absmax: Tensor, code: Tensor, blocksize: int, dtype: torch.dtype
) -> Tensor:
    return torch.empty_like(quantized, dtype=dtype)


def _quantize_4bit(
    values: Tensor, blocksize: int, quant_type: str, quant_storage: torch.dtype
) -> tuple[Tensor, Tensor]:
    values = values.contiguous()
    count = values.numel()
    absmax = torch.empty(-(-count // blocksize), dtype=torch.float32)
    packed = torch.empty(((count + 1) // (quant_storage.itemsize * 2), 1), dtype=quant_storage)
    return packed, absmax


def _dequantize_4bit(
    packed: Tensor, absmax: Tensor, blocksize: int, quant_type: str, shape: Sequence[int], dtype: torch.dtype
) -> Tensor:
    return torch.empty(tuple(shape), dtype=dtype)


def _gemm_4bit(
    activations: Tensor,
    packed: Tensor,
    shape: Sequence[int],
    absmax: Tensor,
    blocksize: int,
    quant_type: str,
    bias: Tensor | None = None,
    absmax_8bit: Tensor | None = None,
    absmax_code: Tensor | None = None,
    absmax_offset: Tensor | None = None,
) -> Tensor:
    ingoing = activations.shape[-1]
    rows, outgoing = activations.numel() // ingoing, shape[0]
    if ingoing % blocksize == 0 and takes_custom_kernel(activations.dtype, rows, outgoing, ingoing):
        activations = activations.contiguous()
        return torch.empty((*activations.shape[:-1], outgoing), dtype=activations.dtype)
    held: list[Tensor] = []
    if absmax_8bit is not None:
        assert absmax_offset is not None, "scales that are quantized have an offset"
        scales = torch.empty_like(absmax_8bit, dtype=torch.float32)
        # Until the product is there: both have a name in the kernel.
        held = [scales, scales + absmax_offset]
    dequantized = torch.empty(tuple(shape), dtype=activations.dtype)
    product = torch.nn.functional.linear(activations, dequantized, bias)
    held.clear()
    return product


def _optimizer_update(*_: Any, **__: Any) -> None:
    """The kernels of the optimizers write to their arguments (csrc/kernels.cu) and take nothing."""


KERNELS: Mapping[Any, Callable[..., Any]] = {
    _ops.int8_vectorwise_quant.default: _int8_vectorwise_quant,
    _ops.int8_double_quant.default: _int8_double_quant,
    _ops.int8_linear_matmul.default: _int8_linear_matmul,
    _ops.int8_mm_dequant.default: _int8_mm_dequant,
    _ops.int8_scaled_mm.default: _int8_scaled_mm,
    _ops.int8_mixed_scaled_mm.default: _int8_mixed_scaled_mm,
    _ops.int8_vectorwise_dequant.default: _int8_vectorwise_dequant,
    _ops.quantize_blockwise.default: _quantize_blockwise,
    _ops.dequantize_blockwise.default: _dequantize_blockwise,
    _ops.quantize_4bit.default: _quantize_4bit,
    _ops.dequantize_4bit.default: _dequantize_4bit,
    _ops.gemm_4bit.default: _gemm_4bit,
    _ops.optimizer_update_32bit.default: _optimizer_update,
    _ops.optimizer_update_8bit_blockwise.default: _optimizer_update,
}
"""What runs in place of each operator, under the mode that counts."""


@cache
def stand_in(func: Any) -> Callable[..., Any] | None:
    """What runs in place of ``func`` under the mode that counts; None where ``func`` is to run itself.

    Beside bitsandbytes' operators these are the composite ones of torch (``linear``, ``to``): autograd takes them apart
    before a mode sees them, but not those that are called below autograd, as the kernels here are.
    """
    kernel = KERNELS.get(func)
    if kernel is not None:
        return kernel
    is_composite = torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")
    return func.decompose if is_composite else None
