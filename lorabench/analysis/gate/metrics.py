"""The numbers of a record's memory that the gate knows, by name."""

from __future__ import annotations

import re

from lorabench.errors import ResultsError
from lorabench.record import Memory, Record
from lorabench.wording import one_line

STATIC = "memory.static_bytes"
DYNAMIC = "memory.dynamic_bytes"
PEAK = "memory.peak_allocated_bytes"
REQUESTED = "memory.requested_bytes"
"""What tensors asked for at the peak: its categories without the allocator's slack.

A block is rounded up to 512 bytes on CUDA (c10/cuda/CUDACachingAllocator.cpp, kMinBlockSize), so a byte more in a
tensor can leave the peak as it was: the slack shrinks instead. This sum tells.
"""
RESERVED = "memory.peak_reserved_bytes"
DEVICE_USED = "memory.device_used_bytes"

WHOLE: tuple[str, ...] = (STATIC, DYNAMIC, PEAK)
SHOWN: tuple[str, ...] = (RESERVED, DEVICE_USED)
"""Told and never judged: they follow what the allocator found free, and what else was on the card."""
SLACK = "allocator_slack"

_PHASE = re.compile(r"memory\.phases\.(.+)\.peak_bytes", re.DOTALL)


def phase_metric(phase: str) -> str:
    """The name of a phase's peak."""
    return f"memory.phases.{phase}.peak_bytes"


def title(metric: str) -> str:
    """The metric as people say it, ``peak allocated`` or ``peak in backward``."""
    if metric == REQUESTED:
        return "requested at peak"
    if found := _PHASE.fullmatch(metric):
        return f"peak in {found[1]}"
    return metric.removeprefix("memory.").removesuffix("_bytes").replace("_", " ")


def gated(memory: Memory | None) -> dict[str, int]:
    """The bytes that are judged, by name, of those that the record has; :data:`REQUESTED` is apart from them."""
    if memory is None:
        return {}
    numbers = {STATIC: memory.static_bytes, DYNAMIC: memory.dynamic_bytes, PEAK: memory.peak_allocated_bytes}
    phases = {phase_metric(name): phase.peak_bytes for name, phase in memory.phases.items()}
    return {name: n_bytes for name, n_bytes in {**numbers, **phases}.items() if n_bytes is not None}


def shown(memory: Memory | None) -> dict[str, int]:
    """The bytes that are told only."""
    if memory is None:
        return {}
    numbers = {RESERVED: memory.peak_reserved_bytes, DEVICE_USED: memory.device_used_bytes}
    return {name: n_bytes for name, n_bytes in numbers.items() if n_bytes is not None}


def requested(memory: Memory | None) -> int | None:
    """:data:`REQUESTED`; None where the peak was not attributed."""
    if memory is None or not memory.categories:
        return None
    return sum(n_bytes for name, n_bytes in memory.categories.items() if name != SLACK)


def refuse_negative(record: Record, file: str) -> None:
    """Fewer than no bytes are an error of the file.

    Raises:
        ResultsError: which record and which number.
    """
    memory = record.memory
    categories = memory.categories if memory else {}
    numbers = {**gated(memory), **shown(memory), **{f"memory.categories.{name}": n for name, n in categories.items()}}
    for name, n_bytes in numbers.items():
        # Dynamic is a difference: an inference step frees nothing, but a file may say so of a lifecycle.
        if n_bytes < 0 and name != DYNAMIC:
            raise ResultsError(
                f"{file}: record {one_line(record.name[:80])!r}: {one_line(name[:80])}: {n_bytes} is below 0: not bytes"
            )
