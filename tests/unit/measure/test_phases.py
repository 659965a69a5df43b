from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import pairwise

import pytest

from lorabench.measure.phases import MemoryPhases, TimedPhases, UnobservedPhases
from lorabench.record import PhaseMemory


class ScriptedDevice:
    """Bytes and clock readings that a test sets by hand."""

    def __init__(self) -> None:
        self.allocated = 0
        self.peak = 0
        self.now = 0.0
        self.reserved: int | None = None

    def allocate(self, count_bytes: int) -> None:
        self.allocated += count_bytes
        self.peak = max(self.peak, self.allocated)

    def allocated_bytes(self) -> int:
        return self.allocated

    def peak_allocated_bytes(self) -> int:
        return self.peak

    def peak_reserved_bytes(self) -> int | None:
        return self.reserved

    def device_used_bytes(self) -> int | None:
        return None

    def reset_peak(self) -> None:
        self.peak = self.allocated

    def synchronize(self) -> None: ...

    def mark(self) -> float:
        return self.now

    def elapsed_s(self, marks: Sequence[float]) -> list[float]:
        return [later - earlier for earlier, later in pairwise(marks)]


def test_a_phase_has_its_own_peak() -> None:
    device = ScriptedDevice()
    phases = MemoryPhases(device, lambda phase: None)
    with phases("forward"):
        device.allocate(100)
        device.allocate(-40)
    with phases("backward"):
        device.allocate(10)
    assert phases.phases == {"forward": PhaseMemory(0, 100, 60), "backward": PhaseMemory(60, 70, 70)}
    assert phases.peak_allocated_bytes == 100


def test_the_occurrence_with_the_highest_peak_is_kept() -> None:
    device = ScriptedDevice()
    phases = MemoryPhases(device, lambda phase: None)
    for extra in (5, 50, 7):
        with phases("forward"):
            device.allocate(extra)
            device.allocate(-extra)
    assert phases.phases["forward"] == PhaseMemory(0, 50, 0)


def test_a_phase_that_fails_leaves_its_peak() -> None:
    device = ScriptedDevice()
    phases = MemoryPhases(device, lambda phase: None)

    def run_out() -> None:
        with phases("backward"):
            device.allocate(123)
            raise MemoryError

    with pytest.raises(MemoryError):
        run_out()
    assert phases.peak_allocated_bytes == 123


def test_forgotten_phases_and_their_peak_are_gone_and_others_stay() -> None:
    device = ScriptedDevice()
    phases = MemoryPhases(device, lambda phase: None)
    with phases("load"):
        device.allocate(500)
    with phases("forward"):
        device.allocate(400)
        device.allocate(-400)
    phases.forget("forward")
    with phases("forward"):
        device.allocate(30)
    assert phases.phases["load"] == PhaseMemory(0, 500, 500)
    assert phases.phases["forward"] == PhaseMemory(500, 530, 530)
    assert phases.peak_allocated_bytes == 530


def test_the_reserved_peak_is_the_highest_over_phases_and_absent_without_an_allocator() -> None:
    device = ScriptedDevice()
    phases = MemoryPhases(device, lambda phase: None)
    with phases("load"):
        pass
    assert phases.peak_reserved_bytes is None
    for reserved in (10, 40, 20):
        device.reserved = reserved
        with phases("forward"):
            pass
    assert phases.peak_reserved_bytes == 40


def test_the_phases_of_a_step_add_up_to_it() -> None:
    device = ScriptedDevice()
    timed = TimedPhases(device, lambda phase: None)
    for forward_s, backward_s in ((1.0, 2.0), (1.5, 2.5)):
        with timed.step():
            with timed("forward"):
                device.now += forward_s
            # What happens between two phases belongs to the later one.
            device.now += 0.25
            with timed("backward"):
                device.now += backward_s
    assert timed.samples_s() == {"forward": [1.0, 1.5], "backward": [2.25, 2.75], "step": [3.25, 4.25]}


def test_every_kind_tells_the_phase_on_entering_it() -> None:
    seen: list[str] = []
    device = ScriptedDevice()
    for phases in (UnobservedPhases(seen.append), MemoryPhases(device, seen.append)):
        with phases("forward"):
            seen.append("inside")
    assert seen == ["forward", "inside", "forward", "inside"]
    assert isinstance(UnobservedPhases(seen.append)("forward"), nullcontext)
