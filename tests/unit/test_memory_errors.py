"""Running out of memory in the words of each library that asks for some."""

from __future__ import annotations

import pytest
import torch

from lorabench.memory_errors import is_out_of_memory

ACCELERATOR_ERROR: type[Exception] = getattr(torch, "AcceleratorError", RuntimeError)


class OwnOutOfMemoryError(torch.OutOfMemoryError):
    pass


@pytest.mark.parametrize(
    "fault",
    [
        MemoryError(),
        torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.1 GiB"
        ),
        OwnOutOfMemoryError("CUDA out of memory"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
        ),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 10 bytes."),
        # c10::AcceleratorError of cudaErrorMemoryAllocation: a context, or a kernel that is loaded when first called.
        ACCELERATOR_ERROR(
            "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other"
        ),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
    ids=lambda fault: f"{type(fault).__name__} {str(fault)[:40]}",
)
def test_who_runs_out_of_memory_is_recognised(fault):
    assert is_out_of_memory(fault)


@pytest.mark.parametrize(
    "fault",
    [
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx(...)`"),
        ACCELERATOR_ERROR("CUDA error: an illegal memory access was encountered"),
        ValueError("not enough memory of what was said"),
        KeyboardInterrupt(),
    ],
    ids=lambda fault: f"{type(fault).__name__} {str(fault)[:40]}",
)
def test_other_faults_are_other_faults(fault):
    assert not is_out_of_memory(fault)
