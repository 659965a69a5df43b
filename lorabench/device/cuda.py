"""A CUDA GPU: bytes from the caching allocator's own counters, time from events in the stream."""

from __future__ import annotations

import gc
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import pynvml
import torch

from lorabench.errors import DeviceError
from lorabench.nvml import visible_gpus


class CudaDevice:
    """Runs for real on one GPU.

    Args:
        index: CUDA's number of the GPU.

    Raises:
        DeviceError: there is no such GPU, or this torch cannot use it.
    """

    type: Literal["cuda"] = "cuda"
    computes = True
    device_used_of: Literal["process", "device"] | None = None

    def __init__(self, index: int = 0) -> None:
        if not torch.cuda.is_available():
            raise DeviceError(f"cuda: torch {torch.__version__} can use no GPU here; cpu and fake need none")
        if index >= torch.cuda.device_count():
            raise DeviceError(f"cuda:{index}: no such GPU; there are {torch.cuda.device_count()}, counted from 0")
        gpu = visible_gpus()[index]
        self.name = gpu.name
        self.total_bytes = gpu.total_bytes
        self.torch_device = torch.device("cuda", index)
        pynvml.nvmlInit()
        self._nvml_handle = pynvml.nvmlDeviceGetHandleByIndex(gpu.nvml_index)
        self._used_before_bytes = self._used_bytes()

    @contextmanager
    def session(self) -> Iterator[None]:
        with torch.cuda.device(self.torch_device):
            yield

    def counting(self) -> AbstractContextManager[None]:
        return nullcontext()

    def allocated_bytes(self) -> int:
        return torch.cuda.memory_allocated(self.torch_device)

    def peak_allocated_bytes(self) -> int:
        return torch.cuda.max_memory_allocated(self.torch_device)

    def peak_reserved_bytes(self) -> int:
        return torch.cuda.max_memory_reserved(self.torch_device)

    def device_used_bytes(self) -> int:
        """This process's bytes as NVML has them: the CUDA context, its libraries and the allocator's segments.

        In a container NVML often cannot tell one process from another. Then it is what the whole device uses more than
        when this object was made, which is before the context: too high if another process grew since.
        """
        processes = pynvml.nvmlDeviceGetComputeRunningProcesses(self._nvml_handle)
        told = bytes_of_process(processes, os.getpid())
        self.device_used_of = "device" if told is None else "process"
        return self._used_bytes() - self._used_before_bytes if told is None else told

    def reset_peak(self) -> None:
        torch.cuda.reset_peak_memory_stats(self.torch_device)

    def settle(self) -> None:
        gc.collect()
        torch.cuda.empty_cache()

    def drop_workspaces(self) -> None:
        torch.cuda.synchronize(self.torch_device)
        torch._C._cuda_clearCublasWorkspaces()

    def mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def elapsed_s(self, marks: Sequence[torch.cuda.Event]) -> list[float]:
        if not marks:
            return []
        # The stream runs in order: when the last mark has passed, all have.
        marks[-1].synchronize()
        return [before.elapsed_time(after) / 1000 for before, after in itertools.pairwise(marks)]

    def synchronize(self) -> None:
        torch.cuda.synchronize(self.torch_device)

    def _used_bytes(self) -> int:
        return int(pynvml.nvmlDeviceGetMemoryInfo(self._nvml_handle).used)


def bytes_of_process(processes: Iterable[Any], pid: int) -> int | None:
    """What NVML's list of processes says of ``pid``; None where it is not listed or its bytes are not told."""
    for process in processes:
        if process.pid == pid and process.usedGpuMemory is not None:
            return int(process.usedGpuMemory)
    return None
