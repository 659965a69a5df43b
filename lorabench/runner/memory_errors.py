"""Tells running out of memory from other faults."""

from __future__ import annotations

# torch's CPU allocator raises a plain RuntimeError; these are its two wordings (c10/core/impl/alloc_cpu.cpp).
_CPU_ALLOCATOR_WORDS = ("can't allocate memory", "not enough memory")


def is_out_of_memory(fault: BaseException) -> bool:
    """True for Python's and torch's out-of-memory errors, on the host and on CUDA."""
    import torch

    if isinstance(fault, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(fault, RuntimeError) and any(words in str(fault) for words in _CPU_ALLOCATOR_WORDS)
