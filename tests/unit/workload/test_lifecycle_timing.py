"""How a life is timed: what a sample spans, and what comes first."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

from lorabench.case import Case, Measure
from lorabench.errors import InputError
from lorabench.workload import make_workload
from lorabench.workload.lifecycle.timing import SampledPhases, rounds

LIFECYCLE = Case(scenario="s", task="lifecycle", model="llama-tiny", measure=Measure(warmup=2, steps=3))


class Clock:
    """A device whose clock is read and moved by hand; writes down when it is waited for."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []

    def synchronize(self) -> None:
        self.log.append("wait")

    def mark(self) -> float:
        self.log.append("mark")
        return self.now

    def elapsed_s(self, marks: Sequence[float]) -> list[float]:
        return [later - earlier for earlier, later in pairwise(marks)]


def test_a_sample_is_a_phases_own_and_none_of_what_comes_between() -> None:
    clock: Any = Clock()
    phases = SampledPhases(clock, clock.log.append)
    for seconds in (1.0, 2.0):
        with phases("merge"):
            clock.now += seconds
        clock.now += 100.0
        with phases("unmerge"):
            clock.now += 10 * seconds
    assert phases.samples_s() == {"merge": [1.0, 2.0], "unmerge": [10.0, 20.0]}
    # What another phase left to the device is waited for before a phase begins, and nothing is within it.
    assert clock.log[:6] == ["merge", "wait", "mark", "mark", "unmerge", "wait"]


def test_warm_up_comes_first_and_is_not_timed() -> None:
    silent, timed = object(), object()
    assert rounds(LIFECYCLE, silent, timed) == [silent, silent, timed, timed, timed]  # type: ignore[arg-type]


def test_a_life_is_no_member_of_a_group() -> None:
    with pytest.raises(InputError, match="leave it out of groups"):
        make_workload(LIFECYCLE, Clock())  # type: ignore[arg-type]
