"""Tells running out of memory from other faults. Standard library only: a process that has no torch yet asks, too."""

from __future__ import annotations

_NAMES = frozenset({"MemoryError", "OutOfMemoryError"})
# Where torch's CUDA allocator is not the one that asked, there is a plain RuntimeError or an AcceleratorError; torch's
# CPU allocator has two wordings for its own (c10/core/impl/alloc_cpu.cpp).
_WORDS = (
    "can't allocate memory",
    "not enough memory",
    # The driver, for a context, a kernel that is loaded when it is first called, or a library that calls cudaMalloc.
    "CUDA error: out of memory",
    "CUDA out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUSOLVER_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(fault: BaseException) -> bool:
    """True for Python's and torch's out-of-memory errors, on the host and on CUDA, its libraries' too."""
    if any(kind.__name__ in _NAMES for kind in type(fault).__mro__):
        return True
    return isinstance(fault, RuntimeError) and any(words in str(fault) for words in _WORDS)
