"""Named stretches of a case's life, and what is read at their boundaries: bytes in one pass, time in another.

A workload says ``with phases("forward"):`` and knows nothing of what is observed. Bytes and time are never read in
the same pass: counting bytes on the CPU goes through a dispatch mode, and on CUDA reading the allocator's counters
costs the host time that a launch-bound step would show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

from lorabench.device.protocol import Device
from lorabench.record import PhaseMemory

OnPhase = Callable[[str], None]
"""Told the name of each phase as it is entered, so that a death can be blamed on it."""


class Phases(Protocol):
    """What a workload is given to name its phases with."""

    def __call__(self, name: str) -> AbstractContextManager[None]: ...


class UnobservedPhases:
    """Names phases to ``on_phase`` and reads nothing: warm-up steps, and the pass that gathers proof."""

    def __init__(self, on_phase: OnPhase) -> None:
        self._on_phase = on_phase

    def __call__(self, name: str) -> AbstractContextManager[None]:
        self._on_phase(name)
        return nullcontext()


class MemoryPhases:
    """Reads the device's byte counters at every phase boundary.

    ``phases`` keeps, for each name, the occurrence with the highest peak since :meth:`forget`;
    ``peak_allocated_bytes`` and ``peak_reserved_bytes`` are the highest over all of them.
    """

    def __init__(self, device: Device, on_phase: OnPhase) -> None:
        self._device = device
        self._on_phase = on_phase
        self.phases: dict[str, PhaseMemory] = {}
        self.peak_allocated_bytes = 0
        self.peak_reserved_bytes: int | None = None
        self.device_used_bytes: int | None = None

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self._on_phase(name)
        device = self._device
        device.reset_peak()
        before_bytes = device.allocated_bytes()
        try:
            yield
        finally:
            # In a finally clause, so that a phase that runs out of memory leaves its last peak.
            device.synchronize()
            self._keep(name, PhaseMemory(before_bytes, device.peak_allocated_bytes(), device.allocated_bytes()))
            self.peak_reserved_bytes = _highest(self.peak_reserved_bytes, device.peak_reserved_bytes())
            self.device_used_bytes = _highest(self.device_used_bytes, device.device_used_bytes())

    def _keep(self, name: str, seen: PhaseMemory) -> None:
        self.peak_allocated_bytes = max(self.peak_allocated_bytes, seen.peak_bytes)
        known = self.phases.get(name)
        if known is None or seen.peak_bytes > known.peak_bytes:
            self.phases[name] = seen

    def forget(self, *names: str) -> None:
        """Drop what was seen of ``names``, and the allocated peak: the first steps are not the steady state."""
        for name in names:
            self.phases.pop(name, None)
        self.peak_allocated_bytes = 0


class TimedPhases:
    """Marks the device's clock at phase boundaries and waits for nothing until :meth:`samples_s`.

    Phases of one step follow each other without a gap: a phase ends where the next begins, so that a step's phases
    add up to the step.
    """

    def __init__(self, device: Device, on_phase: OnPhase) -> None:
        self._device = device
        self._on_phase = on_phase
        self._steps: list[list[Any]] = []
        self._names: list[list[str]] = []

    @contextmanager
    def step(self) -> Iterator[None]:
        """One timed step; the phases that run inside belong to it."""
        self._names.append([])
        self._steps.append([self._device.mark()])
        yield

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self._on_phase(name)
        yield
        self._names[-1].append(name)
        self._steps[-1].append(self._device.mark())

    def samples_s(self) -> dict[str, list[float]]:
        """Seconds of each phase and of the whole ``step``, one sample a step, in the order they were run."""
        samples: dict[str, list[float]] = {}
        for names, marks in zip(self._names, self._steps, strict=True):
            parts = self._device.elapsed_s(marks)
            for name, seconds in zip(names, parts, strict=True):
                samples.setdefault(name, []).append(seconds)
            samples.setdefault("step", []).append(sum(parts))
        return samples


def _highest(known: int | None, seen: int | None) -> int | None:
    if known is None or seen is None:
        return seen if known is None else known
    return max(known, seen)
