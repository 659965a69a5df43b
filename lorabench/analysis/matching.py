"""Which records of two files are the same case: by what tells most first, then by less."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence

from lorabench.record import Record

Identify = Callable[[Record], Hashable]
Pairs = list[tuple[Record, Record]]


def match_by(
    levels: Sequence[Identify], base: Sequence[Record], head: Sequence[Record]
) -> tuple[list[Pairs], list[Record], list[Record]]:
    """The pairs of each level, and what is left of either side, in its order.

    A record that found its like takes no part in the levels that follow; of several alike the first finds the first.
    """
    found: list[Pairs] = []
    left, right = list(base), list(head)
    for identify in levels:
        pairs, left, right = _match(left, right, identify)
        found.append(pairs)
    return found, left, right


def _match(
    base: Sequence[Record], head: Sequence[Record], identify: Identify
) -> tuple[Pairs, list[Record], list[Record]]:
    waiting: dict[Hashable, list[Record]] = defaultdict(list)
    for record in head:
        waiting[identify(record)].append(record)
    pairs, left = [], []
    for record in base:
        others = waiting[identify(record)]
        if others:
            pairs.append((record, others.pop(0)))
        else:
            left.append(record)
    taken = {id(other) for _, other in pairs}
    return pairs, left, [record for record in head if id(record) not in taken]
