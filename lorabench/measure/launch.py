"""Launch overhead: for which share of a phase's time the GPU had something to do.

Where the host issues kernels more slowly than the GPU runs them, a phase's time is the host's, and a faster GPU would
not shorten it. Its **GPU-busy share** is the time in which at least one kernel, copy or fill ran, over the phase's wall
time; its **launch-bound share** is the rest. The two times come from different passes: wall time is the median of the
timed pass, because the profiler makes each launch slower, and busy time is the profile's, because a kernel takes as
long with it as without.

Where it errs: a kernel of under a microsecond is timed coarsely; the GPU's own gap of about a microsecond between two
kernels counts as idle, so that a step that never waits for the host has a share of 0.97 to 1.00; clocks that differ
between the two passes move it by as much, and what they push over 1 is cut to 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from typing import Any

from torch.profiler import DeviceType, ProfilerActivity, profile

from lorabench.device.protocol import Device
from lorabench.measure.phases import OnPhase


def busy_s(intervals_ns: Iterable[tuple[int, int]]) -> float:
    """Seconds in which at least one of the intervals runs; each is (start, end) in nanoseconds, in any order."""
    busy_ns = reached_ns = 0
    for start_ns, end_ns in sorted(intervals_ns):
        if end_ns > reached_ns:
            busy_ns += end_ns - max(start_ns, reached_ns)
            reached_ns = end_ns
    return busy_ns / 1e9


def device_intervals_ns(profiler: profile, device_type: DeviceType) -> list[tuple[int, int]]:
    """Start and end of all that ran on the device while ``profiler`` was on.

    Read from the profiler's raw results: ``events()`` makes an object of each in Python, seconds for a long decode.
    """
    assert profiler.profiler is not None
    results = profiler.profiler.kineto_results
    events: list[Any] = results.events() if results is not None else []
    return [
        (event.start_ns(), event.end_ns())
        for event in events
        # An annotation (the optimizer's step has one) spans its kernels and the gaps between them.
        if event.device_type() == device_type and not event.is_user_annotation()
    ]


class ProfiledPhases:
    """Profiles each phase by itself and keeps the seconds that the GPU was busy in it. For one step, on CUDA alone."""

    def __init__(self, device: Device, on_phase: OnPhase) -> None:
        self._device = device
        self._on_phase = on_phase
        self._busy_s: dict[str, list[float]] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self._on_phase(name)
        self._device.synchronize()
        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            yield
            self._device.synchronize()
        self._busy_s[name] = [busy_s(device_intervals_ns(profiler, DeviceType.CUDA))]

    def samples_s(self) -> dict[str, list[float]]:
        """Busy seconds of each phase and of the whole ``step``, in the shape of ``TimedPhases.samples_s``."""
        return {**self._busy_s, "step": [sum(seconds for [seconds] in self._busy_s.values())]}


def launch_bound(busy: Mapping[str, list[float]], wall: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
    """``{phase: {"gpu_busy_share", "launch_bound_share", "gpu_busy_s"}}`` of busy seconds and timed samples.

    A phase in which the profiler saw nothing run is left out: then it was the profiler that did not work.
    """
    shares = {}
    for phase, [seconds] in busy.items():
        if seconds > 0 and wall.get(phase):
            share = min(1.0, seconds / median(wall[phase]))
            shares[phase] = {"gpu_busy_share": share, "launch_bound_share": 1 - share, "gpu_busy_s": seconds}
    return shares
