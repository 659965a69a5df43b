"""torch's operators that bitsandbytes' CUDA kernels, and PEFT's merging of their weights, call beside a model's own."""

from __future__ import annotations

from collections.abc import Mapping

from lorabench.device.kernels import Temporaries, nothing

# TensorIterator kernels, and reductions over rows that stage in shared memory (Reduce.cuh).
_POINTWISE = "aten::abs aten::round aten::masked_fill aten::masked_fill_ aten::sub_ aten::div_"
_REDUCTIONS = "aten::amax"

QUANTIZED: Mapping[str, Temporaries] = dict.fromkeys((_POINTWISE + " " + _REDUCTIONS).split(), nothing)
"""By name without the overload, as in :mod:`lorabench.device.audit`."""
