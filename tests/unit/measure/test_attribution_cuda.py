"""Blocks carried on by a trace, against the allocator's model; and what a listing of blocks says of a peak."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from lorabench.device.allocator import MIB, SMALL_SEGMENT, CachingAllocator, block_bytes
from lorabench.measure.attribution.categories import (
    ADAPTER_WEIGHTS,
    ALLOCATOR_SLACK,
    LIBRARY_WORKSPACES,
    TEMPORARIES,
)
from lorabench.measure.attribution.cuda_blocks import Replay
from lorabench.measure.attribution.held import HeldBlock
from lorabench.measure.attribution.lives import Ledger, Life, Moment, Owner
from lorabench.measure.attribution.summary import Peak


class Traced(CachingAllocator):
    """The model, with a trace and snapshots as torch gives them."""

    def __init__(self) -> None:
        super().__init__()
        self.trace: list[dict[str, Any]] = []
        self.requested: dict[int, int] = {}

    def allocate(self, nbytes: int) -> int:
        reserved = self.reserved_bytes
        address = super().allocate(nbytes)
        if self.reserved_bytes > reserved:
            # What a new segment is made for lies at its start.
            self.trace.append({"action": "segment_alloc", "addr": address, "size": self.reserved_bytes - reserved})
        self.trace.append({"action": "alloc", "addr": address, "size": nbytes})
        self.requested[address] = nbytes
        return address

    def free(self, address: int) -> None:
        self.trace.append({"action": "free_requested", "addr": address, "size": self.requested[address]})
        self.trace.append({"action": "free_completed", "addr": address, "size": self.requested[address]})
        super().free(address)

    def segments(self) -> list[dict[str, Any]]:
        found = []
        for first in sorted(self.blocks(), key=lambda block: block.address):
            if first.before is not None:
                continue
            blocks, block = [], first
            while block is not None:
                state = "inactive" if block.is_free else "active_allocated"
                requested = 0 if block.is_free else self.requested[block.address]
                blocks.append(
                    {"address": block.address, "size": block.size, "requested_size": requested, "state": state}
                )
                block = block.after
            total = sum(block["size"] for block in blocks)
            kind = "small" if total == SMALL_SEGMENT and first.is_small else "large"
            found.append(
                {"address": first.address, "total_size": total, "segment_type": kind, "device": 0, "blocks": blocks}
            )
        return found


def sizes(dice: random.Random) -> int:
    return dice.choice([dice.randrange(1, 4096), dice.randrange(1, 2 * MIB), dice.randrange(MIB, 40 * MIB)])


def churn(allocator: Traced, dice: random.Random, live: list[int], steps: int) -> Iterator[int]:
    """Random allocations and frees; yields what is allocated after each."""
    for _ in range(steps):
        if live and dice.random() < 0.45:
            allocator.free(live.pop(dice.randrange(len(live))))
        else:
            live.append(allocator.allocate(sizes(dice)))
        yield allocator.allocated_bytes


@pytest.mark.parametrize("seed", range(20))
def test_a_replayed_trace_reaches_the_peak_that_the_allocator_counts(seed: int) -> None:
    dice, allocator, live = random.Random(seed), Traced(), []
    for _ in churn(allocator, dice, live, 200):
        pass
    replay = Replay(allocator.segments())
    assert sum(block.size_bytes for block in replay.held()) == allocator.allocated_bytes
    allocator.trace.clear()
    before = {block.address for block in replay.held()}
    peak = max(allocator.allocated_bytes, *churn(allocator, dice, live, 200))
    found = replay.highest(allocator.trace)
    assert sum(block.size_bytes for block in found) == peak
    assert all(block.size_bytes >= block_bytes(block.requested_bytes) for block in found)
    assert {block.address for block in found if not block.is_of_operator} <= before
    # And at the end of the trace every block is the allocator's.
    assert {(block.address, block.size_bytes) for block in replay.held()} == {
        (block.address, block.size) for block in allocator.blocks() if not block.is_free
    }


def test_segments_of_other_gpus_are_left_out() -> None:
    allocator = Traced()
    allocator.allocate(3 * MIB)
    [segment] = allocator.segments()
    assert Replay([{**segment, "device": 1}], device=0).held() == []


def test_a_block_that_no_snapshot_had_counts_its_rounded_size() -> None:
    trace = [{"action": "segment_map", "addr": 0, "size": 0}, {"action": "alloc", "addr": 4096, "size": 700}]
    assert Replay([]).highest(trace) == [HeldBlock(4096, 1024, 700, is_of_operator=True)]


def test_every_listed_block_is_a_storages_a_kernels_a_librarys_or_nobodys() -> None:
    ledger = Ledger()
    life = Life(1000, 1024, 100, 0, "", Owner("lora_A"), "held before", (250,), "float32", category=ADAPTER_WEIGHTS)
    dead = Life(512, 512, 9000, 0, "", Owner(""), "aten::add", (128,), "float32", died=1)
    ledger.add(1, life)
    ledger.lives.append(dead)
    blocks = [
        HeldBlock(100, 1024, 1000, False),
        HeldBlock(5000, 2048, 2000, True),
        HeldBlock(7000, 4096, 4096, False),
        HeldBlock(9000, 512, 512, False),
    ]
    moment = Moment(3, 2, "aten::mm", "backward", 7680, 0)
    peak = Peak(ledger, moment, 0, blocks, frozenset({7000}))
    assert peak.categories == {
        ADAPTER_WEIGHTS: 1000,
        LIBRARY_WORKSPACES: 4096,
        TEMPORARIES: 2000,
        ALLOCATOR_SLACK: 24 + 48,
    }
    # What lay there died before the moment, and nobody can say whose block it is now.
    assert peak.unattributed_bytes == 512
    assert sum(peak.categories.values()) + peak.unattributed_bytes == sum(block.size_bytes for block in blocks)
