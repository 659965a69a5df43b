"""The largest value that fits, found with few predictions.

Each costs seconds, so the next value to try is not the middle of what is left but the one at which the bytes of the
values that fitted, drawn out as a straight line, meet the capacity. Where the line points beyond what is left, steps
double away from that end, up to the middle; where it goes on misleading, plain bisection takes over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

_GROWTH = 16
"""How far beyond the highest value that fitted the line is trusted: near its origin, rounding bends it."""
_PATIENCE = 10
"""Probes after which plain bisection takes over."""
_FIRST_STEP = 64
"""The first step away from an end is this part of it: fragments take a share of a card, whatever its size."""


@dataclass(frozen=True)
class Probe:
    """What one prediction says of ``value``.

    ``allocated_bytes`` is the peak of what was allocated, None where it does not fit; ``error`` is set where the
    prediction failed, so that nobody knows.
    """

    value: int
    fits: bool
    allocated_bytes: int | None = None
    error: str | None = None


@dataclass(frozen=True)
class Found:
    """The end of a search: ``largest`` fits and ``smallest_failing`` does not, or either is None.

    ``is_monotone`` is False where a value above ``smallest_failing`` was seen to fit. ``probes`` are in the order of
    the search; the last has the error, if one ended it.
    """

    largest: int | None
    smallest_failing: int | None
    is_monotone: bool
    probes: tuple[Probe, ...]

    @property
    def error(self) -> str | None:
        return self.probes[-1].error


def search(probe: Callable[[int], Probe], smallest: int, second: int, limit: int, capacity_bytes: int) -> Found:
    """Find the largest of ``smallest`` to ``limit`` that fits, if all that fit lie below all that do not.

    Both neighbours of the answer are probed, and so are the ends: ``smallest``, and ``limit`` where the answer is
    smaller. ``second`` is a first guess. ``capacity_bytes`` guides the search alone; what fits is for ``probe`` to say.
    """
    seen: list[Probe] = []

    def ask(value: int) -> Probe:
        seen.append(probe(value))
        return seen[-1]

    def found(largest: int | None, failing: int | None, is_monotone: bool = True) -> Found:
        return Found(largest, failing, is_monotone, tuple(seen))

    first = ask(smallest)
    if not first.fits:
        return found(None, None if first.error else smallest)
    fitting = [first]
    failing: int | None = None
    guess, step = min(second, limit), 0
    while fitting[-1].value < (limit if failing is None else failing - 1):
        answer = ask(guess)
        if answer.error:
            return found(fitting[-1].value, failing)
        if answer.fits:
            fitting.append(answer)
        else:
            failing = guess
        line = None if len(seen) > _PATIENCE else _line(fitting, capacity_bytes)
        guess, step = _next(fitting[-1].value, failing, limit, line, step)
    if failing is not None and failing < limit and ask(limit).fits:
        return found(fitting[-1].value, failing, is_monotone=False)
    return found(fitting[-1].value, failing)


def _next(low: int, failing: int | None, limit: int, line: int | None, step: int) -> tuple[int, int]:
    """The value to try between ``low`` and ``failing``, and its step away from the end that the line points beyond."""
    high = limit + 1 if failing is None else failing
    if line is None or (failing is None and line > low * _GROWTH):
        far = 2 * low if line is None else low * _GROWTH
        return (min(far, limit) if failing is None else (low + high) // 2), 0
    if low < line < high:
        return line, 0
    step = 2 * step or max(1, line // _FIRST_STEP)
    if failing is None:
        return min(low + step if line <= low else line, limit), step
    middle = max((low + high) // 2, low + 1)
    return (min(low + step, middle) if line <= low else max(high - step, middle)), step


def _line(fitting: list[Probe], capacity_bytes: int) -> int | None:
    """The last value at which the line through the two highest that fitted is within the capacity."""
    if len(fitting) < 2:
        return None
    before, last = fitting[-2:]
    if before.allocated_bytes is None or last.allocated_bytes is None:
        return None
    rise = last.allocated_bytes - before.allocated_bytes
    if rise <= 0:
        return None
    return last.value + (capacity_bytes - last.allocated_bytes) * (last.value - before.value) // rise
