"""What an allocator holds at the peak, block by block."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HeldBlock:
    """A block at the peak: where it starts, what it takes, what was asked for, and whether the operator made it."""

    address: int
    size_bytes: int
    requested_bytes: int
    is_of_operator: bool
