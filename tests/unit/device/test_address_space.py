"""The model of addresses against what cudaMalloc did on an H100, and its invariants."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from lorabench.device.address_space import MIB, RESERVATION, AddressSpace

RECORDED = Path(__file__).parents[3] / "results" / "h100" / "cuda_malloc.csv"


def test_a_later_segment_lies_below_an_earlier_one() -> None:
    space = AddressSpace()
    first, second = space.take(1024 * MIB), space.take(502 * MIB)
    assert second + 512 * MIB == first


def test_what_is_left_of_a_reservation_is_filled_from_below() -> None:
    space = AddressSpace()
    large = space.take(40 * MIB)
    assert space.take(20 * MIB) == large + 40 * MIB
    assert space.take(2 * MIB) == large + 60 * MIB
    # 2 MiB are left there.
    assert space.take(20 * MIB) == large - RESERVATION


def test_what_was_given_back_is_taken_again() -> None:
    space = AddressSpace()
    first, second = space.take(1024 * MIB), space.take(1024 * MIB)
    space.give_back(first)
    assert space.take(2048 * MIB) == second - 2048 * MIB
    assert space.take(512 * MIB) == first + 512 * MIB


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 200))))
def test_nothing_overlaps_and_all_comes_back(moves: list[tuple[bool, int]]) -> None:
    space, out = AddressSpace(), {}
    for takes, number in moves:
        if takes or not out:
            nbytes = number * 2 * MIB
            address = space.take(nbytes)
            assert address > 0
            assert all(address + nbytes <= other or other + size <= address for other, size in out.items())
            out[address] = nbytes
        else:
            address = sorted(out)[number % len(out)]
            space.give_back(address)
            del out[address]
    for address in out:
        space.give_back(address)
    # As good as new.
    assert space.take(4096 * MIB) == AddressSpace().take(4096 * MIB)


def order_agrees(pairs: Iterable[tuple[int, int]]) -> bool:
    """Whether two segments lie the same way round on the GPU and in the model."""
    (real, modelled), (other_real, other_modelled) = pairs
    return (real < other_real) == (modelled < other_modelled)


def test_the_order_of_segments_is_mostly_that_of_an_h100() -> None:
    """Chance is one half; the driver's own reservations, which the model has not, keep it from being all."""
    with RECORDED.open(encoding="utf-8", newline="") as file:
        moves = list(csv.DictReader(file))
    agreed = []
    for _, sequence in itertools.groupby(moves, key=lambda move: move["sequence"]):
        space, out = AddressSpace(), dict[int, int]()
        for move in sequence:
            address = int(move["address"])
            if move["action"] == "free":
                space.give_back(out.pop(address))
                continue
            modelled = space.take(int(move["bytes"]))
            agreed += [order_agrees(((address, modelled), other)) for other in out.items()]
            out[address] = modelled
    assert len(agreed) > 10_000
    assert sum(agreed) / len(agreed) > 0.69
