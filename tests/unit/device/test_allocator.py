"""The allocator model against answers worked out from c10/cuda/CUDACachingAllocator.cpp by hand, and its invariants."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorabench.device.allocator import MIB, Block, CachingAllocator, OutOfDeviceMemoryError, block_bytes, segment_bytes

KIB = 1 << 10


@pytest.mark.parametrize(
    ("requested", "block", "segment"),
    [
        (1, 512, 2 * MIB),
        (512, 512, 2 * MIB),
        (513, 1024, 2 * MIB),
        (MIB, MIB, 2 * MIB),
        (MIB + 1, MIB + 512, 20 * MIB),
        (10 * MIB - 512, 10 * MIB - 512, 20 * MIB),
        (10 * MIB - 511, 10 * MIB, 10 * MIB),
        (10 * MIB, 10 * MIB, 10 * MIB),
        (10 * MIB + 1, 10 * MIB + 512, 12 * MIB),
        (501 * MIB, 501 * MIB, 502 * MIB),
    ],
)
def test_rounding_of_blocks_and_segments(requested: int, block: int, segment: int) -> None:
    assert block_bytes(requested) == block
    assert segment_bytes(block) == segment


def test_nothing_is_taken_for_nothing() -> None:
    allocator = CachingAllocator()
    assert allocator.allocate(0) == 0
    allocator.free(0)
    assert allocator.reserved_bytes == 0


def test_a_large_remainder_up_to_one_mib_stays_in_the_block() -> None:
    # Llama-3.2-1B's embedding: 128256 x 2048 in bf16 is 501 MiB, its segment 502 MiB.
    allocator = CachingAllocator()
    allocator.allocate(128256 * 2048 * 2)
    assert allocator.allocated_bytes == 502 * MIB
    assert allocator.reserved_bytes == 502 * MIB


def test_a_larger_remainder_is_split_off_and_used() -> None:
    allocator = CachingAllocator()
    first = allocator.allocate(2 * MIB)
    assert (allocator.allocated_bytes, allocator.reserved_bytes) == (2 * MIB, 20 * MIB)
    second = allocator.allocate(9 * MIB)
    assert second == first + 2 * MIB
    # 9 MiB are left; a request of 8 leaves 1 MiB, which is not split off.
    allocator.allocate(8 * MIB)
    assert allocator.allocated_bytes == 20 * MIB
    assert allocator.reserved_bytes == 20 * MIB


def test_small_blocks_are_split_to_the_last_512_bytes() -> None:
    allocator = CachingAllocator()
    addresses = [allocator.allocate(1) for _ in range(4096)]
    assert addresses == list(range(addresses[0], addresses[0] + 2 * MIB, 512))
    assert (allocator.allocated_bytes, allocator.reserved_bytes) == (2 * MIB, 2 * MIB)
    allocator.allocate(1)
    assert allocator.reserved_bytes == 4 * MIB


def test_pools_are_apart() -> None:
    allocator = CachingAllocator()
    large = allocator.allocate(12 * MIB)
    allocator.free(large)
    allocator.allocate(4 * KIB)
    assert allocator.reserved_bytes == 12 * MIB + 2 * MIB


def test_the_smallest_free_block_that_fits_is_taken() -> None:
    allocator = CachingAllocator()
    sizes = [40, 24, 32]
    addresses = {size: allocator.allocate(size * MIB) for size in sizes}
    for address in addresses.values():
        allocator.free(address)
    assert allocator.allocate(20 * MIB) == addresses[24]
    assert allocator.allocate(26 * MIB) == addresses[32]
    assert allocator.reserved_bytes == 96 * MIB


def test_of_equal_blocks_the_lowest_address_is_taken() -> None:
    allocator = CachingAllocator()
    addresses = [allocator.allocate(16 * MIB) for _ in range(3)]
    for address in reversed(addresses):
        allocator.free(address)
    assert [allocator.allocate(16 * MIB) for _ in range(3)] == sorted(addresses)


def test_neighbours_join_within_a_segment_and_never_across() -> None:
    allocator = CachingAllocator()
    first, second, third = (allocator.allocate(6 * MIB) for _ in range(3))
    allocator.free(first)
    allocator.free(third)
    # 6 and 6 + 2 MiB lie around the middle block: 12 MiB need a new segment.
    allocator.allocate(12 * MIB)
    assert allocator.reserved_bytes == 32 * MIB
    allocator.free(second)
    assert allocator.allocate(20 * MIB) == first
    assert allocator.reserved_bytes == 32 * MIB


def test_empty_cache_gives_back_whole_segments_alone() -> None:
    allocator = CachingAllocator()
    kept = allocator.allocate(2 * MIB)
    gone = allocator.allocate(30 * MIB)
    allocator.free(gone)
    allocator.empty_cache()
    assert allocator.reserved_bytes == 20 * MIB
    allocator.free(kept)
    allocator.empty_cache()
    assert (allocator.allocated_bytes, allocator.reserved_bytes) == (0, 0)


def test_peaks_and_their_reset() -> None:
    allocator = CachingAllocator()
    address = allocator.allocate(30 * MIB)
    allocator.free(address)
    allocator.allocate(1)
    assert (allocator.peak_allocated_bytes, allocator.peak_reserved_bytes) == (30 * MIB, 32 * MIB)
    allocator.reset_peaks()
    assert (allocator.peak_allocated_bytes, allocator.peak_reserved_bytes) == (512, 32 * MIB)
    allocator.empty_cache()
    allocator.reset_peaks()
    assert allocator.peak_reserved_bytes == 2 * MIB


def test_a_full_card_gives_its_cache_back_and_tries_again() -> None:
    allocator = CachingAllocator(capacity_bytes=100 * MIB)
    cached = [allocator.allocate(30 * MIB) for _ in range(3)]
    for address in cached:
        allocator.free(address)
    allocator.allocate(80 * MIB)
    assert allocator.reserved_bytes == 80 * MIB
    with pytest.raises(OutOfDeviceMemoryError, match="20971520 bytes asked for"):
        CachingAllocator(capacity_bytes=19 * MIB).allocate(2 * MIB)


def test_giving_back_keeps_what_is_split_or_in_use() -> None:
    # Four segments of 20, 20, 30 and 2 MiB: the first half in use, the second split and free, the third free, the small
    # one in use. Of 100 MiB, 72 are reserved; 40 fit only where the third goes, and 50 not even then.
    allocator = CachingAllocator(capacity_bytes=100 * MIB)
    allocator.allocate(9 * MIB)
    allocator.allocate(9 * MIB)
    split = [allocator.allocate(9 * MIB) for _ in range(2)]
    whole = allocator.allocate(30 * MIB)
    allocator.allocate(512)
    for address in (split[0], whole):
        allocator.free(address)
    assert (allocator.reserved_bytes, allocator.alloc_retries) == (72 * MIB, 0)
    allocator.allocate(40 * MIB)
    assert (allocator.reserved_bytes, allocator.alloc_retries) == (82 * MIB, 1)
    # The free 9 MiB beside a live block were not given back.
    assert allocator.allocate(8 * MIB) == split[0]
    assert allocator.reserved_bytes == 82 * MIB


def test_both_pools_are_given_back_for_either() -> None:
    allocator = CachingAllocator(capacity_bytes=22 * MIB)
    small, large = allocator.allocate(512), allocator.allocate(2 * MIB)
    allocator.free(small)
    allocator.free(large)
    # A new large segment needs the small one's room.
    allocator.allocate(22 * MIB)
    assert (allocator.reserved_bytes, allocator.alloc_retries) == (22 * MIB, 1)


def test_cache_that_fits_is_used_before_anything_is_given_back() -> None:
    allocator = CachingAllocator(capacity_bytes=60 * MIB)
    first, second = allocator.allocate(30 * MIB), allocator.allocate(30 * MIB)
    allocator.free(first)
    allocator.free(second)
    # It takes a block much larger than it needs rather than a new segment: no max_split_size by default.
    assert allocator.allocate(11 * MIB) == min(first, second)
    assert (allocator.reserved_bytes, allocator.alloc_retries) == (60 * MIB, 0)


def test_running_out_leaves_what_there_was_and_an_empty_cache() -> None:
    allocator = CachingAllocator(capacity_bytes=64 * MIB)
    kept = allocator.allocate(24 * MIB)
    allocator.free(allocator.allocate(40 * MIB))
    with pytest.raises(OutOfDeviceMemoryError):
        allocator.allocate(42 * MIB)
    assert (allocator.allocated_bytes, allocator.reserved_bytes) == (24 * MIB, 24 * MIB)
    assert allocator.alloc_retries == 1
    # As after a caught OutOfMemoryError, a smaller request still works.
    allocator.allocate(40 * MIB)
    allocator.free(kept)
    assert (allocator.allocated_bytes, allocator.reserved_bytes) == (40 * MIB, 64 * MIB)


def test_a_segment_is_asked_for_in_steps_of_its_own() -> None:
    # 10 MiB + 512 bytes want a segment of 12 MiB, and 1 byte one of 2 MiB, though less would be left of the capacity.
    with pytest.raises(OutOfDeviceMemoryError):
        CachingAllocator(capacity_bytes=11 * MIB).allocate(10 * MIB + 1)
    with pytest.raises(OutOfDeviceMemoryError):
        CachingAllocator(capacity_bytes=2 * MIB - 1).allocate(1)
    exact = CachingAllocator(capacity_bytes=12 * MIB)
    exact.allocate(10 * MIB + 1)
    assert exact.reserved_bytes == 12 * MIB


def test_the_highest_reserved_outlives_resets() -> None:
    allocator = CachingAllocator()
    allocator.free(allocator.allocate(50 * MIB))
    allocator.empty_cache()
    allocator.reset_peaks()
    allocator.allocate(12 * MIB)
    assert (allocator.peak_reserved_bytes, allocator.highest_reserved_bytes) == (12 * MIB, 50 * MIB)


def test_steps_of_growing_sizes_fragment_and_the_cache_saves_them() -> None:
    """Each step takes more than the last and frees all: without a limit each size keeps a segment of its own."""
    sizes = [20 * MIB, 30 * MIB, 40 * MIB, 50 * MIB]
    free, limited = CachingAllocator(), CachingAllocator(capacity_bytes=90 * MIB)
    for size in sizes:
        for allocator in (free, limited):
            allocator.free(allocator.allocate(size))
    assert (free.reserved_bytes, free.alloc_retries) == (140 * MIB, 0)
    # 20 + 30 + 40 = 90 fill it; 50 want everything gone.
    assert (limited.reserved_bytes, limited.alloc_retries) == (50 * MIB, 1)
    assert limited.highest_reserved_bytes == 90 * MIB


def test_fragments_can_be_too_small_though_their_sum_would_do() -> None:
    allocator = CachingAllocator(capacity_bytes=40 * MIB)
    blocks = [allocator.allocate(9 * MIB) for _ in range(4)]
    allocator.free(blocks[0])
    allocator.free(blocks[2])
    with pytest.raises(MemoryError):
        allocator.allocate(18 * MIB)
    allocator.free(blocks[1])
    assert allocator.allocate(18 * MIB) == blocks[0]


def test_it_needs_no_torch() -> None:
    code = "import sys, lorabench.device.allocator; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def segments(allocator: CachingAllocator) -> list[list[Block]]:
    """Each segment's blocks from the first to the last, following their links."""
    chains = []
    for head in allocator.blocks():
        if head.before is None:
            chain = [head]
            while chain[-1].after is not None:
                assert chain[-1].after.before is chain[-1]
                chain.append(chain[-1].after)
            chains.append(chain)
    return chains


SIZES = st.one_of(st.integers(1, 4 * KIB), st.integers(1, 3 * MIB), st.integers(MIB, 64 * MIB))


@given(st.lists(st.tuples(st.booleans(), SIZES, st.integers(0, 1 << 16)), max_size=80), st.booleans())
def test_invariants_hold_after_every_event(events: list[tuple[bool, int, int]], limited: bool) -> None:
    allocator = CachingAllocator(capacity_bytes=256 * MIB if limited else None)
    live: dict[int, int] = {}
    peak_allocated = peak_reserved = 0
    for frees, nbytes, pick in events:
        if frees and live:
            address = sorted(live)[pick % len(live)]
            allocator.free(address)
            del live[address]
        else:
            try:
                address = allocator.allocate(nbytes)
            except OutOfDeviceMemoryError:
                assert limited
                continue
            assert address not in live
            live[address] = nbytes
        peak_allocated = max(peak_allocated, allocator.allocated_bytes)
        peak_reserved = max(peak_reserved, allocator.reserved_bytes)

        blocks = list(allocator.blocks())
        by_address = {block.address: block for block in blocks}
        assert len(by_address) == len(blocks)
        assert {address for address, block in by_address.items() if not block.is_free} == set(live)
        for address, requested in live.items():
            slack = by_address[address].size - requested
            assert 0 <= slack < 512 if by_address[address].is_small else 0 <= slack <= MIB + 511
        assert allocator.allocated_bytes == sum(by_address[address].size for address in live)
        chains = segments(allocator)
        assert sum(map(len, chains)) == len(blocks)
        assert allocator.reserved_bytes == sum(block.size for block in blocks) >= allocator.allocated_bytes
        for chain in chains:
            for lower, upper in itertools.pairwise(chain):
                assert lower.address + lower.size == upper.address
                assert not (lower.is_free and upper.is_free)
        if limited:
            assert allocator.reserved_bytes <= 256 * MIB
    assert (allocator.peak_allocated_bytes, allocator.peak_reserved_bytes) == (peak_allocated, peak_reserved)
    for address in live:
        allocator.free(address)
    allocator.empty_cache()
    assert (allocator.allocated_bytes, allocator.reserved_bytes) == (0, 0)
    assert list(allocator.blocks()) == []
