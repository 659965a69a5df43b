"""How many columns of an int8 layer's input hold an outlier: fake tensors hold no values to count them by.

The share is set for each layer (:func:`set_outlier_share`) and looked up while the layer runs. A layer without one
refuses to be predicted: taken for none, memory would come out too low.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from lorabench.errors import DeviceError

_ATTRIBUTE = "lorabench_outlier_share"
_running: ContextVar[Any] = ContextVar("running")
_given: ContextVar[float | None] = ContextVar("given", default=None)


def set_outlier_share(state: Any, share: float, rows: int) -> None:
    """Say which share of its input's columns, from 0 to 1, a layer splits off when its input has ``rows`` rows.

    Args:
        state: the layer's ``MatmulLtState``.
    """
    _check(share)
    setattr(state, _ATTRIBUTE, (share, rows))


def outlier_share(state: Any) -> float | None:
    """What was given for all layers, or else set for this one; None where nothing was."""
    given = _given.get()
    known = vars(state).get(_ATTRIBUTE)
    return given if given is not None or known is None else known[0]


@contextmanager
def given_outlier_share(share: float) -> Iterator[None]:
    """Within it every int8 layer splits off that share of its input's columns, whatever was derived for it."""
    _check(share)
    token = _given.set(share)
    try:
        yield
    finally:
        _given.reset(token)


@contextmanager
def running(state: Any) -> Iterator[None]:
    """Around the product of the layer with that state."""
    token = _running.set(state)
    try:
        yield
    finally:
        _running.reset(token)


def outlier_columns(rows: int, columns: int) -> int:
    """Of the running layer's input of that shape, rounded to the nearest.

    An input of another number of rows than the share was set for has each column's outlier with the same chance in each
    row, so a column has none in n rows with the chance (1 - share) ** (n / rows).

    Raises:
        DeviceError: nothing is known of the layer.
    """
    state = _running.get(None)
    if state is None or outlier_share(state) is None:
        raise DeviceError("int8_threshold: the share of outlier columns of an int8 layer is not known")
    given = _given.get()
    if given is not None:
        return round(given * columns)
    share: float
    share, known_rows = vars(state)[_ATTRIBUTE]
    chance: float = (1 - share) ** (rows / known_rows)
    return round((1 - chance) * columns)


def _check(share: float) -> None:
    if not 0.0 <= share <= 1.0:
        raise DeviceError(f"outlier share {share}: a share lies between 0 and 1")
