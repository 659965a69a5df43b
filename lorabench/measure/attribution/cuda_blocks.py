"""CUDA's caching allocator, read while a step is followed: its counters after every operator, its blocks at one.

Within the operator at the peak, what its kernel takes and gives back is known from the allocator's own trace. The
trace tells addresses and the bytes asked for (``orig_size`` in ``alloc_found_block`` of
c10/cuda/CUDACachingAllocator.cpp), not the blocks' sizes; these follow from the snapshot before the operator and the
allocator's rules for splitting and joining (:mod:`lorabench.device.allocator`), replayed on the addresses that the
trace gives.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lorabench.device.allocator import BLOCK_ROUNDING, SMALL_LIMIT, SMALL_SEGMENT, block_bytes
from lorabench.measure.attribution.held import HeldBlock

# Of a trace: far more than one operator takes.
_MOST_EVENTS = 100_000


class CudaBlocks:
    """The blocks of one GPU. Of ``held_bytes`` it knows the rounded request; a listing has the sizes themselves."""

    can_capture = True

    def __init__(self, device: torch.device) -> None:
        self._index = device.index
        self._before_bytes = 0
        self._replay = Replay(())

    def held_bytes(self, storage: torch.UntypedStorage) -> int | None:
        if storage.device.type != "cuda" or storage.device.index != self._index:
            return None
        return block_bytes(storage.nbytes())

    def address(self, storage: torch.UntypedStorage) -> int:
        return storage.data_ptr()

    def before_operator(self) -> None:
        torch._C._cuda_resetPeakMemoryStats(self._index)
        self._before_bytes = self._allocated()["current"]

    def after_operator(self) -> tuple[int, int]:
        allocated = self._allocated()
        now_bytes = allocated["current"]
        return now_bytes, allocated["peak"] - max(self._before_bytes, now_bytes)

    def begin_capture(self) -> None:
        self._replay = Replay(torch.cuda.memory._snapshot(self._index)["segments"], device=self._index)
        torch.cuda.memory._record_memory_history("all", context=None, max_entries=_MOST_EVENTS, clear_history=True)

    def end_capture(self) -> list[HeldBlock]:
        traces = torch.cuda.memory._snapshot(self._index)["device_traces"]
        torch.cuda.memory._record_memory_history(None)
        return self._replay.highest(traces[self._index] if self._index < len(traces) else [])

    def workspace_bytes(self) -> int:
        """They are among the blocks that a capture lists."""
        return 0

    def take_workspaces(self) -> frozenset[int]:
        """cuBLAS's and cuBLASLt's, of every thread: ``clearCublasWorkspaces`` in ATen/cuda/CublasHandlePool.cpp."""
        torch.cuda.synchronize(self._index)
        before = self._held_addresses()
        torch._C._cuda_clearCublasWorkspaces()
        return before - self._held_addresses()

    def _allocated(self) -> Mapping[str, int]:
        # memory_stats() flattens and sorts all counters first, which is many times slower.
        stats: Mapping[str, int] = torch._C._cuda_memoryStats(self._index)["allocated_bytes"]["all"]
        return stats

    def _held_addresses(self) -> frozenset[int]:
        segments = torch.cuda.memory._snapshot(self._index)["segments"]
        return frozenset(block.address for block in Replay(segments, device=self._index).held())


@dataclass(slots=True)
class _Block:
    size: int
    requested: int
    is_free: bool
    is_of_operator: bool = False


class _Segment:
    """A stretch of device memory in blocks, by address."""

    def __init__(self, address: int, size: int, is_small: bool) -> None:
        self.is_small = is_small
        self.blocks = {address: _Block(size, 0, is_free=True)}

    def allocate(self, address: int, requested: int) -> None:
        block = self.blocks[address]
        size = block_bytes(requested)
        rest = block.size - size
        if rest >= BLOCK_ROUNDING if self.is_small else rest > SMALL_LIMIT:
            self.blocks[address + size] = _Block(rest, 0, is_free=True)
            block.size = size
        block.requested, block.is_free, block.is_of_operator = requested, False, True

    def free(self, address: int) -> None:
        block = self.blocks[address]
        block.is_free, block.requested = True, 0
        above = self.blocks.get(address + block.size)
        if above is not None and above.is_free:
            block.size += self.blocks.pop(address + block.size).size
        for start, below in self.blocks.items():
            if start + below.size == address and below.is_free:
                below.size += self.blocks.pop(address).size
                break


class Replay:
    """Blocks as a snapshot has them, carried on by a trace.

    Args:
        segments: of ``torch.cuda.memory._snapshot()``.
        device: the index of the GPU; segments of others are left out.
    """

    def __init__(self, segments: Iterable[Mapping[str, Any]], device: int = 0) -> None:
        self._segments: dict[int, _Segment] = {}
        for told in segments:
            if told.get("device", device) != device:
                continue
            segment = _Segment(told["address"], told["total_size"], told["segment_type"] == "small")
            address = told["address"]
            segment.blocks = {}
            for block in told["blocks"]:
                # Waiting for another stream, a block still counts as allocated by nobody: only the first state counts.
                is_free = block["state"] != "active_allocated"
                requested = 0 if is_free else block["requested_size"]
                segment.blocks[block.get("address", address)] = _Block(block["size"], requested, is_free)
                address += block["size"]
            self._segments[told["address"]] = segment
        self._starts = sorted(self._segments)

    def held(self) -> list[HeldBlock]:
        """The blocks that are allocated now."""
        return [
            HeldBlock(address, block.size, block.requested, block.is_of_operator)
            for segment in self._segments.values()
            for address, block in segment.blocks.items()
            if not block.is_free
        ]

    def highest(self, trace: Sequence[Mapping[str, Any]]) -> list[HeldBlock]:
        """What is allocated at the highest moment of ``trace``, the first of several; its start and its end count."""
        held = sum(block.size_bytes for block in self.held())
        most, found = held, self.held()
        for event in trace:
            action, address, size = event["action"], event.get("addr", 0), event.get("size", 0)
            if action == "alloc":
                segment = self._segment_of(address, size)
                segment.allocate(address, size)
                held += segment.blocks[address].size
                if held > most:
                    most, found = held, self.held()
            elif action == "free_completed":
                segment = self._segment_of(address, size)
                held -= segment.blocks[address].size
                segment.free(address)
            elif action == "segment_alloc":
                # What is above kSmallBuffer was made for the large pool (get_allocation_size).
                self._add(address, _Segment(address, size, is_small=size <= SMALL_SEGMENT))
            elif action == "segment_free" and address in self._segments:
                del self._segments[address]
                self._starts = sorted(self._segments)
        return found

    def _segment_of(self, address: int, nbytes: int) -> _Segment:
        """Where the block at ``address`` lies; in one of its own where the allocator's settings are not the default's
        (expandable segments, other roundings). What is wrong then shows in the sum."""
        place = bisect_right(self._starts, address)
        segment = self._segments[self._starts[place - 1]] if place else None
        if segment is None or address not in segment.blocks:
            segment = _Segment(address, block_bytes(nbytes), is_small=False)
            self._add(address, segment)
        return segment

    def _add(self, address: int, segment: _Segment) -> None:
        self._segments[address] = segment
        self._starts = sorted(self._segments)
