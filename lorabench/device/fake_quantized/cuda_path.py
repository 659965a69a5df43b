"""Makes bitsandbytes and transformers' loader take the way on fake tensors that they take on CUDA."""

from __future__ import annotations

from typing import Any

import bitsandbytes
import torch
from bitsandbytes import MatmulLtState, functional
from bitsandbytes.autograd._functions import MatMul8bitLt
from bitsandbytes.nn import Int8Params, Params4bit, modules
from peft.tuners.lora import dora, variants
from peft.utils import integrations
from torch import Tensor, nn

from lorabench.device.fake_quantized.outliers import running
from lorabench.device.fake_quantized.parameters import make_subclass
from lorabench.device.replacement import Replacement


def quantized_replacements() -> list[Replacement]:
    """For one session: what the library caches on the device starts empty."""
    return [
        (torch.Tensor, "_make_subclass", staticmethod(make_subclass)),
        # It asks for the device's type and trains on another function on the CPU.
        (bitsandbytes, "matmul", _matmul),
        # On a CPU that has them 4-bit layers repack their weights.
        (modules, "has_avx512bf16", _answer_no),
        # Tables of values, computed on the host and moved.
        (functional, "create_dynamic_map", _HostMap),
        (functional, "get_4bit_type", _nf4_table),
        (functional, "name2qmap", {}),
        # On the CPU it also moves the weight, and then int8 layers forget their scales.
        (dora, "dequantize_module_weight", _dequantize),
        (variants, "dequantize_module_weight", _dequantize),
    ]


def _matmul(
    activations: Tensor,
    weight: Tensor,
    out: Tensor | None = None,
    state: MatmulLtState | None = None,
    threshold: float = 0.0,
    bias: Tensor | None = None,
) -> Any:
    """``matmul`` in bitsandbytes/autograd/_functions.py, without its branch for the CPU."""
    state = state or MatmulLtState()
    if threshold > 0.0:
        state.threshold = threshold
    with running(state):
        return MatMul8bitLt.apply(activations, weight, out, bias, state)


def _answer_no() -> bool:
    return False


def _dequantize(module: nn.Module) -> Any:
    """``dequantize_module_weight`` in peft/utils/integrations.py, without its branch for the CPU."""
    weight = module.weight
    if isinstance(weight, (Int8Params, Params4bit)):
        return integrations.dequantize_bnb_weight(weight, state=getattr(module, "state", None))
    return integrations.dequantize_module_weight(module)


class _HostMap:
    """The 256 values of ``create_dynamic_map``, in fp32, which take memory once they are moved to the device."""

    def __init__(self, signed: bool = True) -> None:
        pass

    def to(self, device: torch.device) -> Tensor:
        return torch.empty(256, dtype=torch.float32)


def _nf4_table(typename: str, device: torch.device | None = None, blocksize: int = 64) -> Tensor:
    """The 16 values of a 4-bit type, and what ``get_4bit_type`` takes to scale them."""
    table = torch.empty(16, dtype=torch.float32)
    # data.div_(data.abs().max())
    magnitudes = table.abs()
    table.div_(torch.empty((), dtype=magnitudes.dtype))
    return table
