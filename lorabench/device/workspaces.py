"""The memory that cuBLAS and cuBLASLt are given to work in, and keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from lorabench.device.allocator import CachingAllocator

CUBLAS_OPERATORS = frozenset({"aten::mm", "aten::bmm", "aten::addmm", "aten::baddbmm"})
"""Matrix products: the first that a thread runs makes its cuBLAS workspace."""
CUBLASLT_WORKSPACE_BYTES = 1 << 20
"""The default of ``CUBLASLT_WORKSPACE_SIZE`` (``parseCUDABlasLtWorkspaceSize`` in CublasHandlePool.cpp).

Measured with torch 2.11 on an H100: every case of a model with biases holds exactly as much more in each thread that
adds one. Only with ``TORCH_CUBLASLT_UNIFIED_WORKSPACE`` in the environment would it be part of cuBLAS's.
"""


def cublas_workspace_bytes(compute_capability: tuple[int, int]) -> int:
    """``:4096:8`` KiB, which is 32 MiB, on Hopper and ``:4096:2:16:8`` before it.

    Source: ``parseChosenWorkspaceSize`` in aten/src/ATen/cuda/CublasHandlePool.cpp.
    """
    kib = 4096 * 8 if compute_capability >= (9, 0) else 4096 * 2 + 16 * 8
    return kib << 10


class Workspaces:
    """Takes a workspace from ``allocator`` when a thread first needs it.

    Autograd's engine runs CUDA's backward pass in a thread of its own, and each thread has handles of its own.
    """

    def __init__(self, allocator: CachingAllocator, compute_capability: tuple[int, int]) -> None:
        self._allocator = allocator
        self._cublas_bytes = cublas_workspace_bytes(compute_capability)
        self._taken: dict[tuple[str, str], int] = {}

    def take_for(self, name: str, args: Sequence[Any]) -> None:
        """What a matrix product called ``name`` with these positional arguments needs and its thread has not yet."""
        thread = "forward" if torch._C._current_graph_task_id() == -1 else "backward"
        self._take("cublas", thread, self._cublas_bytes)
        if name == "aten::addmm" and args[0].dim() == 1:
            # A bias is added by cuBLASLt (addmm_out_cuda_impl in aten/src/ATen/native/cuda/Blas.cpp).
            self._take("cublaslt", thread, CUBLASLT_WORKSPACE_BYTES)

    def _take(self, library: str, thread: str, nbytes: int) -> None:
        if (library, thread) not in self._taken:
            self._taken[library, thread] = self._allocator.allocate(nbytes)

    def drop(self) -> None:
        """As ``clearCublasWorkspaces`` (ATen/cuda/CublasHandlePool.cpp): those of all threads."""
        for address in self._taken.values():
            self._allocator.free(address)
        self._taken.clear()
