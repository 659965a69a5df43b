"""Which record of the results belongs to which of the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lorabench.analysis.matching import match_by
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
    levels = (_exactly, _on_any_device, _from_any_source)
    (same, crossed, foreign), lost, new = match_by(levels, sorted(base, key=_order), sorted(head, key=_order))
    return Pairing((*same, *crossed), tuple(lost), tuple(new), tuple(foreign))


def _exactly(record: Record) -> tuple[Any, ...]:
    return (*_on_any_device(record), record.device.type, record.device.name)


def _on_any_device(record: Record) -> tuple[Any, ...]:
    return (*_from_any_source(record), record.source)


def _from_any_source(record: Record) -> tuple[Any, ...]:
    return record.key, record.seed, record.repeat, record.group


def _order(record: Record) -> tuple[Any, ...]:
    return record.scenario, record.name, record.key, record.seed, record.repeat, record.device.name, record.source
