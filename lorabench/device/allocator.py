"""A model of CUDA's caching allocator: which blocks and segments a sequence of allocations and frees comes to.

It follows ``DeviceCachingAllocator`` of c10/cuda/CUDACachingAllocator.cpp with its default settings (no expandable
segments, no ``max_split_size``, no rounding to powers of two) and one stream; the constants are those of
c10/core/AllocatorConfig.h, the same in torch 2.11 to 2.13. Ties between free blocks of one size are decided by where
``cudaMalloc`` put their segments, for which there is a model of its own (:mod:`lorabench.device.address_space`).

When ``cudaMalloc`` has no room, ``malloc`` does three things in turn:

1. ``garbage_collect_cached_blocks``, with a memory fraction and a threshold that is off (0.0) by default: nothing.
2. ``release_available_cached_blocks``, which frees oversize blocks alone and returns at once without a
   ``max_split_size``: nothing.
3. ``release_cached_blocks``: every block that is a whole segment goes back, of both pools, and ``cudaMalloc`` is asked
   once more. A block that was split, or whose rest is in use, stays. If that fails too, the process is out of memory.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass

from lorabench.device.address_space import MIB, AddressSpace

BLOCK_ROUNDING = 512
"""``kMinBlockSize``: block sizes are multiples of it, and a small block's remainder of this size is split off."""
SMALL_LIMIT = 1 * MIB
"""``kSmallSize``: requests up to it come from the small pool; a large block's remainder is split off only above it."""
SMALL_SEGMENT = 2 * MIB
"""``kSmallBuffer``: what the small pool grows by."""
LARGE_SEGMENT = 20 * MIB
"""``kLargeBuffer``: what the large pool grows by for requests below ``kMinLargeAlloc``."""
LARGE_SEGMENT_LIMIT = 10 * MIB
"""``kMinLargeAlloc``: requests from here on get a segment of their own size."""
SEGMENT_ROUNDING = 2 * MIB
"""``kRoundLarge``: segments of their own size are multiples of it."""


class OutOfDeviceMemoryError(MemoryError):
    """The capacity is too small, even with every cached segment given back."""


def block_bytes(nbytes: int) -> int:
    """A request rounded up as ``round_size`` does; nothing is taken for nothing."""
    return -(-nbytes // BLOCK_ROUNDING) * BLOCK_ROUNDING


def segment_bytes(rounded: int) -> int:
    """What ``cudaMalloc`` is asked for when no free block fits a request of ``rounded`` bytes."""
    if rounded <= SMALL_LIMIT:
        return SMALL_SEGMENT
    if rounded < LARGE_SEGMENT_LIMIT:
        return LARGE_SEGMENT
    return -(-rounded // SEGMENT_ROUNDING) * SEGMENT_ROUNDING


@dataclass(slots=True, eq=False)
class Block:
    """A stretch of a segment, with its neighbours in that segment."""

    address: int
    size: int
    is_small: bool
    is_free: bool = False
    before: Block | None = None
    after: Block | None = None


class CachingAllocator:
    """Hands out addresses and counts bytes as ``torch.cuda.memory_allocated`` and ``memory_reserved`` do.

    ``allocated_bytes`` sums whole blocks, so the remainder that a large block keeps counts as allocated.

    ``alloc_retries`` counts how often the cache was given back for want of room, as ``num_alloc_retries`` of
    ``torch.cuda.memory_stats`` does; ``highest_reserved_bytes`` is the most ever reserved, whatever was reset.

    Args:
        capacity_bytes: what all segments together may come to; None for no limit. It is what a card leaves beside the
            CUDA context, or what ``set_per_process_memory_fraction`` allows: both fail where the sum would be above.
    """

    def __init__(self, capacity_bytes: int | None = None) -> None:
        self.capacity_bytes = capacity_bytes
        self.allocated_bytes = 0
        self.reserved_bytes = 0
        self.peak_allocated_bytes = 0
        self.peak_reserved_bytes = 0
        self.highest_reserved_bytes = 0
        self.alloc_retries = 0
        self._live: dict[int, Block] = {}
        # Free blocks by (size, address), as the pools' sets are ordered; the dictionary finds the block again.
        self._free_small: list[tuple[int, int]] = []
        self._free_large: list[tuple[int, int]] = []
        self._free: dict[int, Block] = {}
        self._addresses = AddressSpace()

    def allocate(self, nbytes: int) -> int:
        """The address of a block of at least ``nbytes``; 0, which is no block, for 0 bytes.

        Raises:
            OutOfDeviceMemoryError: no free block fits, and a new segment would exceed the capacity. The cache has
                been given back by then, as on CUDA; what was allocated stays.
        """
        if nbytes == 0:
            return 0
        size = block_bytes(nbytes)
        block = self._best_fit(size) or self._new_segment(size)
        if self._leaves_remainder(block, size):
            self._split(block, size)
        self._live[block.address] = block
        self.allocated_bytes += block.size
        self.peak_allocated_bytes = max(self.peak_allocated_bytes, self.allocated_bytes)
        return block.address

    def free(self, address: int) -> None:
        """Give back what :meth:`allocate` returned; the block joins free neighbours of its segment."""
        if address == 0:
            return
        block = self._live.pop(address)
        self.allocated_bytes -= block.size
        if block.before is not None and block.before.is_free:
            self._leave_pool(block.before)
            block = _join(block.before, block)
        if block.after is not None and block.after.is_free:
            self._leave_pool(block.after)
            block = _join(block, block.after)
        self._enter_pool(block)

    def empty_cache(self) -> None:
        """Give back the segments that are wholly free."""
        for block in list(self._free.values()):
            if block.before is None and block.after is None:
                self._leave_pool(block)
                self._addresses.give_back(block.address)
                self.reserved_bytes -= block.size

    def reset_peaks(self) -> None:
        self.peak_allocated_bytes = self.allocated_bytes
        self.peak_reserved_bytes = self.reserved_bytes

    def blocks(self) -> Iterator[Block]:
        """Every block, live and free, in no order."""
        yield from self._live.values()
        yield from self._free.values()

    def _pool(self, is_small: bool) -> list[tuple[int, int]]:
        return self._free_small if is_small else self._free_large

    def _enter_pool(self, block: Block) -> None:
        block.is_free = True
        self._free[block.address] = block
        insort(self._pool(block.is_small), (block.size, block.address))

    def _leave_pool(self, block: Block) -> None:
        block.is_free = False
        del self._free[block.address]
        pool = self._pool(block.is_small)
        del pool[bisect_left(pool, (block.size, block.address))]

    def _best_fit(self, size: int) -> Block | None:
        pool = self._pool(size <= SMALL_LIMIT)
        index = bisect_left(pool, (size, 0))
        if index == len(pool):
            return None
        block = self._free[pool[index][1]]
        self._leave_pool(block)
        return block

    def _new_segment(self, size: int) -> Block:
        segment = segment_bytes(size)
        if self._exceeds(segment):
            self.alloc_retries += 1
            self.empty_cache()
        if self._exceeds(segment):
            raise OutOfDeviceMemoryError(
                f"out of device memory: {segment} bytes asked for, {self.reserved_bytes} of {self.capacity_bytes} "
                f"reserved, {self.allocated_bytes} allocated"
            )
        block = Block(self._addresses.take(segment), segment, is_small=size <= SMALL_LIMIT)
        self.reserved_bytes += segment
        self.peak_reserved_bytes = max(self.peak_reserved_bytes, self.reserved_bytes)
        self.highest_reserved_bytes = max(self.highest_reserved_bytes, self.reserved_bytes)
        return block

    def _exceeds(self, segment: int) -> bool:
        return self.capacity_bytes is not None and self.reserved_bytes + segment > self.capacity_bytes

    def _leaves_remainder(self, block: Block, size: int) -> bool:
        remainder = block.size - size
        return remainder >= BLOCK_ROUNDING if block.is_small else remainder > SMALL_LIMIT

    def _split(self, block: Block, size: int) -> None:
        rest = Block(block.address + size, block.size - size, block.is_small, before=block, after=block.after)
        if rest.after is not None:
            rest.after.before = rest
        block.after = rest
        block.size = size
        self._enter_pool(rest)


def _join(lower: Block, upper: Block) -> Block:
    lower.size += upper.size
    lower.after = upper.after
    if lower.after is not None:
        lower.after.before = lower
    return lower
