"""Quantization by bitsandbytes, as transformers applies it when it loads a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import bitsandbytes
import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel
from transformers.integrations import bitsandbytes as integration
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.quantizers_utils import get_module_from_name

from lorabench.case import Case

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

# The kernels that bitsandbytes writes for CUDA and that a step of a quantized model calls. Its other operators are
# made of these or of torch's, on every device.
_KERNELS = {
    "int8": ("int8_vectorwise_quant", "int8_linear_matmul", "int8_mm_dequant"),
    "nf4": ("quantize_4bit", "dequantize_4bit", "gemm_4bit"),
}
_NESTED_KERNELS = ("quantize_blockwise", "dequantize_blockwise")
# Classifier heads: PEFT trains them whole, so they must not be quantized, and from_pretrained spares only heads
# without a bias by itself.
_HEADS = ("classifier", "score")
_HEADED_TASKS = frozenset({"SEQ_CLS", "TOKEN_CLS"})


def is_quantizing(case: Case) -> bool:
    return case.quantization in _KERNELS


def weight_dtype(case: Case) -> torch.dtype:
    """The dtype of the weights that are not quantized, and of the others before they are."""
    return DTYPES[case.compute_dtype if is_quantizing(case) else case.quantization]


def trained_heads(case: Case) -> tuple[str, ...]:
    """Names under which PEFT looks for the head that it trains whole with the case's task type."""
    return _HEADS if case.adapter is not None and case.adapter.task_type in _HEADED_TASKS else ()


def quantization_config(case: Case) -> BitsAndBytesConfig | None:
    """What ``from_pretrained`` is told; None for a dense model."""
    skipped = list(trained_heads(case)) or None
    if case.quantization == "int8":
        return BitsAndBytesConfig(
            load_in_8bit=True, llm_int8_threshold=case.int8_threshold, llm_int8_skip_modules=skipped
        )
    if case.quantization == "nf4":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            llm_int8_skip_modules=skipped,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=weight_dtype(case),
            bnb_4bit_use_double_quant=case.double_quantization,
        )
    return None


def is_quantized(module: nn.Module) -> bool:
    """Whether the module's weight really is int8 with scales, or packed 4-bit with a state: not its class alone."""
    if isinstance(module, bitsandbytes.nn.Linear8bitLt):
        # The first forward pass moves the scales from the weight to the layer.
        scales = (getattr(module.weight, "SCB", None), module.state.SCB)
        return module.weight.dtype == torch.int8 and any(scale is not None for scale in scales)
    if isinstance(module, bitsandbytes.nn.Linear4bit):
        return module.weight.dtype == torch.uint8 and getattr(module.weight, "quant_state", None) is not None
    return False


def must_be_quantized(model: PreTrainedModel, case: Case) -> list[str]:
    """Names of the linear layers that from_pretrained quantizes in ``model``, which may itself be quantized or dense.

    All but a classifier's head, or else the output head, weights tied to another and the last parameter; and what
    the model keeps in fp32 (``get_modules_to_not_convert`` in transformers/quantizers/base.py).
    """
    kept = set(model._keep_in_fp32_modules or ())
    if heads := trained_heads(case):
        spared = set(heads)
    else:
        tied = {name for pair in model.all_tied_weights_keys.items() for name in pair}
        last_parameter = [name for name, _ in model.named_parameters()][-1]
        spared = {name.removesuffix(".weight") for name in (*tied, last_parameter)}
    output_head = model.get_output_embeddings()
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D))
        and module is not output_head
        and name not in spared
        and kept.isdisjoint(name.split("."))
    ]


def backend(case: Case, torch_device: torch.device) -> str | None:
    """Whose kernels the quantized layers of ``case`` dispatch to on this device; None for a dense model.

    ``cuda`` or ``cpu`` where all of them are bitsandbytes' own for that device, ``default`` where all are its slow
    fallback in torch operations, ``cpu+default`` and the like where some are.
    """
    if not is_quantizing(case):
        return None
    kernels = _KERNELS[case.quantization] + (_NESTED_KERNELS if case.double_quantization else ())
    key = torch_device.type.upper()
    own = [torch._C._dispatch_has_kernel_for_dispatch_key(f"bitsandbytes::{kernel}", key) for kernel in kernels]
    if all(own):
        return torch_device.type
    return f"{torch_device.type}+default" if any(own) else "default"


_PACKED_ROWS = 32


def keep_unpacked(model: nn.Module, *, only_unfit: bool = False) -> bool:
    """Switch off that 4-bit layers repack their weights in inference on a CPU; whether any would have.

    With ``only_unfit``, of layers alone whose shape does not fit: their inference would end in an error.

    On a CPU with AVX512-BF16 ``Linear4bit.forward`` does so in eval mode, in place (``_convert_weight_packed_for_cpu``
    in bitsandbytes/functional.py, which needs a multiple of 32 rows and whole blocks in each row). No gradient comes
    through a repacked layer, and ``dequantize_4bit`` reads the new layout as the old one: what is merged then is noise
    (seen with 0.50.2).
    """
    layers = [module for module in model.modules() if isinstance(module, bitsandbytes.nn.Linear4bit)]
    would = [
        layer
        for layer in layers
        if getattr(layer, "support_avx512bf16_for_cpu", False) and not (only_unfit and _can_be_packed(layer))
    ]
    for layer in would:
        layer.support_avx512bf16_for_cpu = False
    return bool(would) and would[0].weight.device.type == "cpu"


def _can_be_packed(layer: Any) -> bool:
    state = layer.weight.quant_state
    rows, columns = state.shape
    return bool(rows % _PACKED_ROWS == 0 and columns % state.blocksize == 0)


class _QuantizingError(BaseException):
    """Carries an error past the loader's ``except Exception``."""


@contextmanager
def quantizing() -> Iterator[None]:
    """Around from_pretrained: weights that lie on the device are quantized there, and errors come through.

    transformers copies each 16-bit weight to the host and back before it quantizes it to int8
    (``Bnb8bitQuantize.convert`` in transformers/integrations/bitsandbytes.py), because ``Int8Params.to`` quantizes
    only what comes from the CPU. The values and the device's allocations are the same without the round trip.
    It also turns every error of the quantizing step, out of memory included, into a RuntimeError without a cause.
    """
    converts = [(integration.Bnb8bitQuantize, _to_int8), (integration.Bnb4bitQuantize, None)]
    originals = [operation.convert for operation, _ in converts]
    for operation, replacement in converts:
        operation.convert = _transparent(replacement or operation.convert)
    try:
        yield
    except _QuantizingError as carrier:
        raise carrier.args[0] from None
    finally:
        for (operation, _), original in zip(converts, originals, strict=True):
            operation.convert = original


def _transparent(convert: Callable[..., Any]) -> Callable[..., Any]:
    def converting(*args: Any, **kwargs: Any) -> Any:
        try:
            return convert(*args, **kwargs)
        except Exception as error:
            raise _QuantizingError(error) from None

    return converting


def _to_int8(
    operation: Any, input_dict: dict[str, Any], model: PreTrainedModel, **_: Any
) -> dict[str, bitsandbytes.nn.Int8Params]:
    result = {}
    for name, value in input_dict.items():
        weight = value[0] if isinstance(value, list) else value
        module, _attribute = get_module_from_name(model, name)
        if issubclass(module.source_cls, Conv1D):
            weight = weight.T
        # One fp16 copy whatever the dtype and strides, as the round trip would leave on the device.
        half = torch.empty(weight.shape, dtype=torch.float16, device=weight.device).copy_(weight)
        parameter = bitsandbytes.nn.Int8Params(
            half, requires_grad=False, has_fp16_weights=module.state.has_fp16_weights
        )
        result[name] = parameter._quantize(half.device)
    return result
