"""The CPU as a device: bytes are counted from storages, time is the process's performance counter."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import psutil
import torch

from lorabench.device.storages import StorageMode
from lorabench.environment import cpu_name


class _Counter:
    """Sums live bytes and keeps the peak."""

    def __init__(self) -> None:
        self.allocated_bytes = 0
        self.peak_bytes = 0
        self._sizes: dict[int, int] = {}

    def on_alloc(self, nbytes: int, storage_id: int) -> None:
        self._sizes[storage_id] = nbytes
        self.allocated_bytes += nbytes
        self.peak_bytes = max(self.peak_bytes, self.allocated_bytes)

    def on_free(self, storage_id: int) -> None:
        self.allocated_bytes -= self._sizes.pop(storage_id)


class CpuDevice:
    """Runs for real on the CPU. Its bytes are those of live storages that operators made within :meth:`counting`.

    What it cannot see: memory that a kernel takes and returns inside one operator (oneDNN's and MKL's packed copies and
    scratch, a softmax's or a reduction's temporaries, type casts made inside a kernel), the malloc arenas' slack, and
    everything that is not a tensor. Peaks are thus those of PyTorch's own tensors, exact to the byte, and below what
    the process really took; the resident set is no better, since malloc keeps freed pages and files are mapped into it.
    So there is no ``device_used_bytes``: no driver stands between a process and the host's memory.
    """

    type: Literal["cpu"] = "cpu"
    torch_device = torch.device("cpu")
    computes = True
    device_used_of = None

    def __init__(self) -> None:
        self.name = cpu_name()
        self.total_bytes = int(psutil.virtual_memory().total)
        self._counter = _Counter()
        self._mode: StorageMode | None = None
        self._counting = False

    @contextmanager
    def session(self) -> Iterator[None]:
        self._counter, self._mode = _Counter(), None
        yield

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Once in a session: storages born between two such blocks would be missing from the second.

        Raises:
            RuntimeError: entered a second time in one session.
        """
        if self._mode is not None:
            raise RuntimeError("counting() was entered before in this session; bytes born in between would be missing")
        self._mode = StorageMode(self._counter)
        self._counting = True
        try:
            with self._mode:
                yield
        finally:
            self._counting = False

    def allocated_bytes(self) -> int:
        return self._counted().allocated_bytes

    def peak_allocated_bytes(self) -> int:
        return self._counted().peak_bytes

    def peak_reserved_bytes(self) -> None:
        return None

    def device_used_bytes(self) -> None:
        return None

    def reset_peak(self) -> None:
        counter = self._counted()
        counter.peak_bytes = counter.allocated_bytes

    def settle(self) -> None:
        gc.collect()

    def drop_workspaces(self) -> None:
        """None is a tensor here."""

    def mark(self) -> float:
        return time.perf_counter()

    def elapsed_s(self, marks: Sequence[float]) -> list[float]:
        return [after - before for before, after in itertools.pairwise(marks)]

    def synchronize(self) -> None:
        """Nothing to wait for: operators return when they are done."""

    def _counted(self) -> _Counter:
        if not self._counting:
            raise RuntimeError("byte counters were read outside of counting(), where nothing follows storages")
        return self._counter
