"""Makes fake CPU tensors take the way that tensors on CUDA take.

A CPU build of torch cannot make fake CUDA tensors, and libraries ask what they are given: whether it is fake, and on
which device it lies. Each replacement here answers one such question as CUDA would, for as long as a session lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional
from torch.optim import optimizer

from lorabench.errors import DeviceError


@contextmanager
def as_on_cuda() -> Iterator[None]:
    """Put the replacements in place, and take them back."""
    from transformers import masking_utils
    from transformers.utils import import_utils

    with ExitStack() as stack:
        for owner, name, replacement in (
            # transformers' is_tracing asks it, and on yes builds a mask that CUDA never sees.
            (import_utils, "is_fake_tensor", _answer_no),
            # It reads a value to find sequences packed into one row. The bench packs none: positions are 0, 1, 2, ...
            (masking_utils, "find_packed_sequence_indices", _not_packed),
            (functional, "scaled_dot_product_attention", _flash_attention),
            # The default of torch's optimizers is one call for all parameters on CUDA, one a parameter on the CPU.
            (optimizer, "_get_foreach_kernels_supported_devices", _cpu_too),
            (optimizer, "_foreach_supported_types", [*optimizer._foreach_supported_types, FakeTensor]),
            # Module.to() swaps fake parameters with their converted selves, which fails on any that is referred to.
            (torch.utils, "swap_tensors", _give_data),
            (torch.autocast, "__enter__", _enter_disabled_autocast),
        ):
            stack.enter_context(_replaced(owner, name, replacement))
        yield


@contextmanager
def _replaced(owner: Any, name: str, replacement: Any) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, replacement)
    try:
        yield
    finally:
        setattr(owner, name, original)


def _answer_no(tensor: Any) -> bool:
    return False


def _not_packed(position_ids: torch.Tensor) -> None:
    return None


def _cpu_too() -> list[str]:
    return ["cpu"]


_enter_autocast: Callable[[torch.autocast], Any] = torch.autocast.__enter__


def _enter_disabled_autocast(context: torch.autocast) -> Any:
    # Libraries turn autocast off around what needs precision, which changes nothing where it is off already.
    if context._enabled:
        raise DeviceError("autocast is not predicted yet: on the CPU it casts other operators than on CUDA")
    return _enter_autocast(context)


def _give_data(parameter: torch.Tensor, converted: torch.Tensor) -> None:
    if not (isinstance(parameter, FakeTensor) and isinstance(converted, FakeTensor)):
        raise DeviceError("a real parameter was moved within a fake session: make the model inside of the session")
    parameter.data = converted.data
    parameter.fake_device = converted.fake_device


def _flash_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """What ``scaled_dot_product_attention`` comes to on CUDA for half precision without a mask, of shape (B, H, L, D).

    Raises:
        DeviceError: CUDA would choose another kernel.
    """
    head_size = query.shape[-1]
    if (
        attn_mask is not None
        or query.dtype not in (torch.float16, torch.bfloat16)
        or head_size % 8
        or head_size > 256
        or value.shape[-1] != head_size
    ):
        raise DeviceError(
            f"attention with {'a' if attn_mask is not None else 'no'} mask in {query.dtype} with heads of {head_size} "
            "is not predicted yet: the fake device knows sdpa in fp16 and bf16 without padding"
        )
    # Like CUDA's kernel, it takes fewer heads for key and value than for query as they are.
    outputs = torch.ops.aten._scaled_dot_product_flash_attention(
        query, key, value, dropout_p, is_causal, False, scale=scale
    )
    attended: torch.Tensor = outputs[0]
    return attended
