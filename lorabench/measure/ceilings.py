"""What the device can do at most, measured: bytes a second of a large copy, operations a second of large products.

The ceilings of a roofline (Williams, Waterman and Patterson 2009, Roofline: an insightful visual performance model).
They are measured in a process that has just timed a case, with the clocks, the power limit and the neighbours that the
case had; a data sheet's numbers are reached by nobody. The best of a few runs counts, as of a ceiling it should.

Matrices are random: of equal numbers a GPU switches fewer bits, draws less power and keeps higher clocks, so that its
products are faster than any of a model's (He 2024, Strangely, Matrix Multiplications on GPUs Run Faster When Given
"Predictable" Data!).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from typing import Any

import torch

from lorabench.device.protocol import Device
from lorabench.measure.work import DTYPES

RUNS = 8
LONG_ENOUGH_S = {"cuda": 0.002, "cpu": 0.005}
"""A run this long hides its launch and the edges of a product."""
SMALLEST_SIDE, LARGEST_SIDE = 256, 16384
COPY_BYTES = {"cuda": 1 << 30, "cpu": 128 << 20}
"""More than any cache holds."""


def measure_ceilings(device: Device, known: Collection[str], dtypes: Collection[str]) -> dict[str, float]:
    """The ceilings that are not ``known`` yet: ``copy``, bytes a second, and operations a second of each of ``dtypes``.

    A copy counts twice, once read and once written. What the device does not multiply (int8 before compute capability
    7.5) or has no room for beside the case is absent. Takes up to a second each on a CPU, and up to 3 GiB on a GPU.
    """
    wanted = {"copy": partial(_copied_bytes_per_s, device)}
    wanted |= {name: partial(_flops_per_s, device, dtype) for dtype, name in DTYPES.items() if name in dtypes}
    ceilings = {}
    for name, measure in wanted.items():
        if name not in known:
            with suppress(RuntimeError):
                ceilings[name] = measure()
    return ceilings


def _copied_bytes_per_s(device: Device) -> float:
    source = torch.ones(COPY_BYTES[device.type], dtype=torch.uint8, device=device.torch_device)
    target = torch.empty_like(source)
    return 2 * source.numel() / _best_s(device, lambda: target.copy_(source))


def _flops_per_s(device: Device, dtype: torch.dtype) -> float:
    """Of square matrices, doubled until one product takes long enough.

    The quicker of two: by a matrix as it lies in memory, and by a transposed one, as a linear layer has its weight. A
    CPU multiplies the second ten times as fast in fp16.
    """
    side = SMALLEST_SIDE
    while True:
        left, right = (_random(side, dtype, device) for _ in range(2))
        multiply = torch._int_mm if dtype == torch.int8 else torch.mm
        seconds = min(_best_s(device, partial(multiply, left, other)) for other in (right, right.t()))
        if seconds >= LONG_ENOUGH_S[device.type] or side >= LARGEST_SIDE:
            return 2 * side**3 / seconds
        side *= 2


def _random(side: int, dtype: torch.dtype, device: Device) -> torch.Tensor:
    """A square matrix of normal numbers, or of whole ones over the range of ``dtype``."""
    if dtype.is_floating_point:
        return torch.randn(side, side, dtype=dtype, device=device.torch_device)
    ends = torch.iinfo(dtype)
    return torch.randint(ends.min, ends.max + 1, (side, side), dtype=dtype, device=device.torch_device)


def _best_s(device: Device, work: Callable[[], Any]) -> float:
    """Seconds of the quickest of a few runs, after one that makes the libraries' workspaces."""
    work()
    marks = [device.mark()]
    for _ in range(RUNS):
        work()
        marks.append(device.mark())
    return min(device.elapsed_s(marks))
