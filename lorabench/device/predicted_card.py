"""Which card the running prediction is for, where the number of its multiprocessors decides what a kernel takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lorabench.catalog import DEFAULT_CARD, Card

_current: Card = DEFAULT_CARD


def predicted_card() -> Card:
    """The card of the innermost :func:`predicting_for`; an H100 outside of any."""
    return _current


@contextmanager
def predicting_for(card: Card) -> Iterator[None]:
    """Within it, kernels are those of ``card``. Of the process, not of a thread: autograd's threads are meant too."""
    global _current
    before, _current = _current, card
    try:
        yield
    finally:
        _current = before
