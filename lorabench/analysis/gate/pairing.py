"""Which record of the results belongs to which of the baseline."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lorabench.record import Record


@dataclass(frozen=True)
class Pairing:
    """``pairs`` are base and head. ``lost`` are of the baseline alone, ``new`` of the results alone.

    ``foreign`` are pairs of one case of which one was predicted and the other measured: they are never compared.
    """

    pairs: tuple[tuple[Record, Record], ...]
    lost: tuple[Record, ...]
    new: tuple[Record, ...]
    foreign: tuple[tuple[Record, Record], ...]


def match(base: Sequence[Record], head: Sequence[Record]) -> Pairing:
    """By case, device and source; what is left by case and source, on whatever device; what is left then by case.

    So of a case that the baseline has for two cards, each card's record finds its own. The order of records is
    irrelevant.
    """
    waiting, left = sorted(base, key=_order), sorted(head, key=_order)
    found: list[list[tuple[Record, Record]]] = []
    for identify in (_exactly, _on_any_device, _from_any_source):
        pairs, waiting, left = _match(waiting, left, identify)
        found.append(pairs)
    same, crossed, foreign = found
    return Pairing((*same, *crossed), tuple(waiting), tuple(left), tuple(foreign))


def _match(
    base: Iterable[Record], head: Iterable[Record], identify: Any
) -> tuple[list[tuple[Record, Record]], list[Record], list[Record]]:
    waiting: dict[Any, list[Record]] = defaultdict(list)
    for record in base:
        waiting[identify(record)].append(record)
    pairs, new = [], []
    for record in head:
        others = waiting[identify(record)]
        if others:
            pairs.append((others.pop(0), record))
        else:
            new.append(record)
    return pairs, [record for others in waiting.values() for record in others], new


def _exactly(record: Record) -> tuple[Any, ...]:
    return (*_on_any_device(record), record.device.type, record.device.name)


def _on_any_device(record: Record) -> tuple[Any, ...]:
    return (*_from_any_source(record), record.source)


def _from_any_source(record: Record) -> tuple[Any, ...]:
    return record.key, record.seed, record.repeat, record.group


def _order(record: Record) -> tuple[Any, ...]:
    return record.scenario, record.name, record.key, record.seed, record.repeat, record.device.name, record.source
