"""Makes fake CPU tensors take the way that tensors on CUDA take.

A CPU build of torch cannot make fake CUDA tensors, and libraries ask what they are given: whether it is fake, and on
which device it lies. Each replacement here answers one such question as CUDA would, for as long as a session lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional
from torch.optim import optimizer

from lorabench.catalog import DEFAULT_CARD, Card
from lorabench.device.adapter_files_path import file_replacements
from lorabench.device.adapter_path import adapter_replacements
from lorabench.device.attention_path import scaled_dot_product_attention
from lorabench.device.autocast_path import CudaAutocast
from lorabench.device.fake_quantized.cuda_path import quantized_replacements
from lorabench.device.padding import is_padded
from lorabench.device.predicted_card import predicted_card
from lorabench.device.replacement import Replacement, replaced
from lorabench.errors import DeviceError

_LEFT_FREE_BYTES = 1.2 * 1024**3
"""What the loader's warm-up leaves of a card (``caching_allocator_warmup`` in transformers/modeling_utils.py)."""


@contextmanager
def as_on_cuda(card: Card = DEFAULT_CARD) -> Iterator[None]:
    """Put the replacements in place, and take them back."""
    autocast = CudaAutocast()
    replacements = [
        *_library_replacements(autocast),
        *autocast.replacements(),
        *quantized_replacements(),
        *adapter_replacements(),
        *file_replacements(),
    ]
    with autocast.session(), replaced(replacements):
        yield


def _library_replacements(autocast: CudaAutocast) -> list[Replacement]:
    from transformers import masking_utils, modeling_utils
    from transformers.utils import import_utils

    return [
        # transformers' is_tracing asks it, and on yes builds a mask that CUDA never sees.
        (import_utils, "is_fake_tensor", _answer_no),
        # It reads a value to find sequences packed into one row. The bench packs none: positions are 0, 1, 2, ...
        (masking_utils, "find_packed_sequence_indices", _not_packed),
        # They read whether a mask masks anything.
        *(
            (masking_utils, name, _unless_padded(getattr(masking_utils, name)))
            for name in ("_ignore_causal_mask_sdpa", "_ignore_bidirectional_mask_sdpa")
        ),
        (functional, "scaled_dot_product_attention", autocast.lowering(scaled_dot_product_attention)),
        (functional, "dropout", _dropout),
        (functional, "softmax", _softmax),
        (modeling_utils, "caching_allocator_warmup", _warm_up),
        # The default of torch's optimizers is one call for all parameters on CUDA, one a parameter on the CPU.
        (optimizer, "_get_foreach_kernels_supported_devices", _cpu_too),
        (optimizer, "_foreach_supported_types", [*optimizer._foreach_supported_types, FakeTensor]),
        # Module.to() swaps fake parameters with their converted selves, which fails on any that is referred to.
        (torch.utils, "swap_tensors", _give_data),
    ]


def _answer_no(tensor: Any) -> bool:
    return False


def _not_packed(position_ids: torch.Tensor) -> None:
    return None


def _unless_padded(can_ignore: Callable[..., bool]) -> Callable[..., bool]:
    def can_ignore_mask(padding_mask: torch.Tensor | None, *args: Any, **kwargs: Any) -> bool:
        if padding_mask is not None:
            # The answer is read whatever it is.
            padding_mask.all()
            if is_padded():
                return False
        return can_ignore(None, *args, **kwargs)

    return can_ignore_mask


def _cpu_too() -> list[str]:
    return ["cpu"]


def _dropout(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    """``dropout`` in aten/src/ATen/native/Dropout.cpp: one kernel on CUDA, whose mask takes a byte an element."""
    if not training or inplace or not 0 < p < 1:
        return _on_the_cpu(input, p, training, inplace)
    dropped: torch.Tensor = torch.native_dropout(input, p, training)[0]
    return dropped


_on_the_cpu = functional.dropout


def _softmax(
    input: torch.Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """``softmax`` in aten/src/ATen/native/SoftMax.cpp: from fp16 to fp32 in the kernel on CUDA, without a copy."""
    if input.dtype == torch.float16 and dtype == torch.float32 and dim is not None:
        widened: torch.Tensor = torch.ops.aten._softmax(input, dim, True)
        return widened
    return _softmax_on_the_cpu(input, dim, _stacklevel, dtype)


_softmax_on_the_cpu = functional.softmax


def _warm_up(model: Any, expanded_device_map: dict[str, Any], hf_quantizer: Any) -> None:
    """``caching_allocator_warmup``, which leaves devices out that are called ``cpu``.

    One block of the size of all weights, given back at once: they are then cut from it without large blocks' slack.
    """
    from transformers.modeling_utils import get_total_byte_count

    for nbytes in get_total_byte_count(model, expanded_device_map, hf_quantizer).values():
        torch.empty(int(min(nbytes, predicted_card().cuda_bytes - _LEFT_FREE_BYTES) // 2), dtype=torch.float16)


def _give_data(parameter: torch.Tensor, converted: torch.Tensor) -> None:
    if not (isinstance(parameter, FakeTensor) and isinstance(converted, FakeTensor)):
        raise DeviceError("a real parameter was moved within a fake session: make the model inside of the session")
    parameter.data = converted.data
    parameter.fake_device = converted.fake_device
