"""What is said of a CUDA kernel's memory: the buffers that it takes beyond its outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

_SORT_TILE = 4096
_SORT_BINS = 256
_SORT_BITS = 8
_COUNTER_BYTES = 4

Temporaries = Callable[[Sequence[Any]], list[int]]
"""The bytes of each buffer that a kernel takes and gives back, from the operator's positional arguments.

Buffers of one call are held at once, beside the outputs.
"""


def tensor_bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def rounded(length: int, multiple: int) -> int:
    """``length`` up to the next multiple."""
    return -(-length // multiple) * multiple


def nothing(args: Sequence[Any]) -> list[int]:
    return []


def radix_sort_bytes(count: int, item_bytes: int, largest: int) -> int:
    """Temporary storage of cub's ``DeviceRadixSort::SortPairs`` with keys and values of ``item_bytes``.

    A second copy of both, histograms of each pass of 8 bits, and a look-back entry for every bin of every tile
    (``DispatchRadixSort::InvokeOnesweep`` in cub/device/dispatch/dispatch_radix_sort.cuh). The tile is taken small.
    """
    passes = -(-max(largest, 2).bit_length() // _SORT_BITS)
    tiles = -(-count // _SORT_TILE)
    return 2 * rounded(count * item_bytes, 256) + (passes * 8 + tiles * _COUNTER_BYTES) * _SORT_BINS
