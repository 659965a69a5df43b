"""Where ``cudaMalloc`` puts what it is asked for, as far as that was seen.

It decides which of two equal free blocks the caching allocator takes, and with that how well later requests fit.

NVIDIA does not say. On an H100 (driver 580.159) sequences of ``cudaMalloc`` and ``cudaFree`` were recorded
(results/h100/cuda_malloc.csv), and memory snapshots of training steps show the same: a request reserves a stretch of
addresses in multiples of 32 MiB, at the highest place that is free, so that a later segment lies below an earlier one;
what is left of a reservation is filled from below by later requests that fit, the lowest place first. What the driver
and libraries hold themselves is not in the model, so it is right in most places and not in all.
"""

from __future__ import annotations

from bisect import insort

MIB = 1 << 20
RESERVATION = 32 * MIB
_TOP = 1 << 46

Range = tuple[int, int]
"""First address, and the one behind the last."""


class AddressSpace:
    """Hands out addresses for segments, and takes them back. No two that are out overlap, and none is 0."""

    def __init__(self) -> None:
        self._unreserved: list[Range] = [(RESERVATION, _TOP)]
        # Free stretches within reservations, which never reach from one into the next.
        self._left: list[Range] = []
        self._reserved: dict[int, Range] = {}
        self._taken: dict[int, tuple[int, Range]] = {}

    def take(self, nbytes: int) -> int:
        """An address with ``nbytes`` behind it, a positive number of them."""
        for place, (start, end) in enumerate(self._left):
            if end - start >= nbytes:
                del self._left[place]
                reservation = self._reservation_of(start)
                break
        else:
            reservation = start, end = self._reserve(nbytes)
        if end - start > nbytes:
            insort(self._left, (start + nbytes, end))
        self._taken[start] = (nbytes, reservation)
        return start

    def give_back(self, address: int) -> None:
        """Take back what :meth:`take` returned; a reservation goes when nothing of it is out."""
        nbytes, reservation = self._taken.pop(address)
        start, end = _merged(self._left, (address, address + nbytes), within=reservation)
        if (start, end) == reservation:
            del self._reserved[start]
            insort(self._unreserved, _merged(self._unreserved, reservation))
        else:
            insort(self._left, (start, end))

    def _reserve(self, nbytes: int) -> Range:
        size = -(-nbytes // RESERVATION) * RESERVATION
        place = next(
            place for place in reversed(range(len(self._unreserved))) if _size(self._unreserved[place]) >= size
        )
        start, end = self._unreserved.pop(place)
        if end - size > start:
            insort(self._unreserved, (start, end - size))
        self._reserved[end - size] = (end - size, end)
        return end - size, end

    def _reservation_of(self, address: int) -> Range:
        return next(found for found in self._reserved.values() if found[0] <= address < found[1])


def _size(one: Range) -> int:
    return one[1] - one[0]


def _merged(ranges: list[Range], one: Range, within: Range = (0, _TOP)) -> Range:
    """``one`` joined with its neighbours among ``ranges``, which are taken out; ``within`` bounds what is joined."""
    start, end = one
    before = next((other for other in ranges if other[1] == start and start > within[0]), None)
    after = next((other for other in ranges if other[0] == end and end < within[1]), None)
    for neighbour in (before, after):
        if neighbour is not None:
            ranges.remove(neighbour)
    return (before[0] if before else start), (after[1] if after else end)
