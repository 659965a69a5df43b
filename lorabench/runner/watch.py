"""What the driver says of a GPU while a case has it: whether the case is alone there, in what state the GPU was when
its times were taken, and whether it is free again before the next case. Read in the parent, and never in a timed step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lorabench.nvml import IDLE_BYTES, GpuUse, device_state, gpu_use, throttled_s
from lorabench.record import CAME_LATER, USED_BEFORE
from lorabench.runner.waiting import Wait

GONE_WITHIN_S = 5.0
"""The driver frees what a dead process held within milliseconds, or something keeps it."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.005, 0.25
# A shorter slowdown does not move a median.
_THROTTLED_SHARE = 0.01
# A clock that somebody set is steady.
_HARMLESS_REASONS = frozenset({"application clocks"})


@dataclass
class Notes:
    """What a record keeps of it: ``device`` and ``warnings`` of its observations."""

    device: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class NoWatch:
    """Of a job on a device that no other process can hold."""

    def __init__(self) -> None:
        self.notes = Notes()

    def heard(self, event: Mapping[str, Any]) -> None:
        """An event of the job has come."""

    def until_gone(self) -> Iterator[Wait]:
        """The job's process has ended: until its GPU is free of it."""
        yield from ()


class GpuWatch(NoWatch):
    """Of one job on a GPU, from before its process starts to when it is gone from there.

    ``warn`` is given what should be said at once. All of it needs NVML to be open already: opening it takes long.
    """

    def __init__(self, nvml_index: int, warn: Callable[[str], None]) -> None:
        super().__init__()
        self._nvml_index = nvml_index
        self._warn = warn
        self._before = gpu_use(nvml_index)
        self._timing_since: float | None = None
        self._throttled_before_s: Mapping[str, float] = {}
        if self._before is not None and self._before.in_use:
            self.notes.warnings.append(f"{USED_BEFORE} ({_describe(self._before)})")
            warn("something else uses this GPU: what is measured is not what it would be alone")

    def heard(self, event: Mapping[str, Any]) -> None:
        """Reads the GPU's state when the phase ``timing`` begins, before its warm-up, and at the event that follows."""
        if event["event"] == "phase" and event["phase"] == "timing":
            self._throttled_before_s = throttled_s(self._nvml_index)
            self._timing_since = time.monotonic()
        elif self._timing_since is not None:
            if event["event"] in ("phase", "result"):
                self._read_state(time.monotonic() - self._timing_since)
            self._timing_since = None

    def _read_state(self, timing_s: float) -> None:
        state = device_state(self._nvml_index)
        counted_s = {
            reason: after_s - self._throttled_before_s[reason]
            for reason, after_s in throttled_s(self._nvml_index).items()
            if reason in self._throttled_before_s
        }
        if counted_s:
            state["throttled_s"] = counted_s
        self.notes.device |= state
        long_s = {reason: slow_s for reason, slow_s in counted_s.items() if slow_s > _THROTTLED_SHARE * timing_s}
        slowed = [f"{reason} for {slow_s / timing_s:.0%} of the time" for reason, slow_s in long_s.items()]
        # Of what is counted, that it is so at this moment says no more.
        at_last = set(state.get("throttle_reasons", ())) - _HARMLESS_REASONS - long_s.keys()
        slowed += [reason for reason in state.get("throttle_reasons", ()) if reason in at_last]
        if slowed:
            self.notes.warnings.append(f"the GPU was slowed down while timed ({', '.join(slowed)})")
        now = gpu_use(self._nvml_index)
        if now is not None:
            self.notes.device |= {"used_bytes": now.used_bytes}
        # The job itself is one process, whatever number it goes by.
        if now is not None and self._before is not None and len(now.pids - self._before.pids) > 1:
            self.notes.warnings.append(f"{CAME_LATER} while the case was timed")

    def until_gone(self) -> Iterator[Wait]:
        before = self._before
        if before is None:
            return
        deadline = time.monotonic() + GONE_WITHIN_S
        pause_s = _FIRST_PAUSE_S
        while (now := gpu_use(self._nvml_index)) is not None and not _is_gone(before, now):
            if time.monotonic() >= deadline:
                left_bytes = max(0, now.used_bytes - before.used_bytes)
                self.notes.device["left_bytes"] = left_bytes
                more = _describe(GpuUse(now.pids - before.pids, left_bytes))
                left = f"{more} more than before stayed in use on the GPU after the case had ended"
                self.notes.warnings.append(left)
                self._warn(f"{left}: the case left a process there, or another one came")
                return
            yield Wait(min(deadline, time.monotonic() + pause_s))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _is_gone(before: GpuUse, now: GpuUse) -> bool:
    if now.pids - before.pids:
        return False
    # Others that are listed may have grown meanwhile: then bytes tell nothing.
    return bool(before.pids) or now.used_bytes <= before.used_bytes + IDLE_BYTES


def _describe(use: GpuUse) -> str:
    processes = f"{len(use.pids)} process{'es' if len(use.pids) > 1 else ''}, " if use.pids else ""
    return f"{processes}{use.used_bytes / 2**20:.0f} MiB"
