"""Following several processes from one: whoever must wait says for what, and one call sleeps until any of it comes.

Generators that yield a :class:`Wait` where they would block can be run side by side without threads, which would
compete with what is measured.
"""

from __future__ import annotations

import select
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar, cast

T = TypeVar("T")


@dataclass(frozen=True)
class Wait:
    """There is nothing to do until ``fd`` can be read, or until ``deadline`` (of ``time.monotonic``)."""

    deadline: float
    fd: int | None = None


def merge(lanes: Sequence[Generator[Wait | T, None, None]]) -> Iterator[T]:
    """What ``lanes`` yield besides waits, as it comes; sleeps in ``poll`` while all of them wait.

    A lane may be resumed before its wait is over, so it looks for itself whether there is something. All lanes are
    closed at the end, however it comes.
    """
    waits: dict[int, Wait] = {}
    ready = list(range(len(lanes)))
    try:
        while ready:
            for number in ready:
                for step in lanes[number]:
                    if isinstance(step, Wait):
                        waits[number] = step
                        break
                    yield step
            ready = _sleep(waits) if waits else []
            for number in ready:
                del waits[number]
    finally:
        for lane in lanes:
            lane.close()


def finish(lane: Generator[Wait, None, T]) -> T:
    """Runs ``lane`` to its end, sleeping where it waits, and returns what it returns."""
    with closing(lane):
        while True:
            try:
                wait = next(lane)
            except StopIteration as end:
                return cast(T, end.value)
            _sleep({0: wait})


def _sleep(waits: dict[int, Wait]) -> list[int]:
    """Until one of ``waits`` is over; the numbers of those that are."""
    poll = select.poll()
    for wait in waits.values():
        if wait.fd is not None:
            poll.register(wait.fd, select.POLLIN)
    left_s = min(wait.deadline for wait in waits.values()) - time.monotonic()
    readable = {fd for fd, _ in poll.poll(max(0.0, left_s) * 1000)}
    now = time.monotonic()
    return [number for number, wait in waits.items() if wait.fd in readable or wait.deadline <= now]
