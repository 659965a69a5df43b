"""The attribution of a case: what a record says of it."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from lorabench.measure.attribution.blocks import Blocks
from lorabench.measure.attribution.lives import Ledger, Moment
from lorabench.measure.attribution.observe import Followed, Subject, follow
from lorabench.measure.attribution.summary import Peak, timeline
from lorabench.measure.phases import OnPhase
from lorabench.record import Memory

_MOST_CAPTURES = 3
"""Steps are alike to the operator, unless int8's outliers have moved."""


@dataclass(frozen=True)
class Attribution:
    """``categories`` and ``unattributed_bytes`` add up to the memory pass's peak; ``details`` are an observation.

    ``unattributed_bytes`` is below 0 where this pass's peak was higher, as it may be where memory depends on values.
    """

    categories: dict[str, int]
    unattributed_bytes: int
    details: dict[str, Any]


def attribute(subject: Subject, blocks: Blocks, memory: Memory, on_phase: OnPhase) -> Attribution:
    """Follow a step of ``subject``; where blocks can be listed another, to list them at the first one's peak.

    Where that lies in the first phase, what comes after it is followed once alone: a decode is many operators.

    Args:
        memory: the memory pass's, for the peak that the categories are to add up to.
    """
    whole = followed = follow(subject, blocks, on_phase)
    moment = whole.ledger.peak()
    workspaces: frozenset[int] = frozenset()
    if blocks.can_capture:
        followed, moment = _capture(subject, blocks, on_phase, whole.ledger)
        workspaces = blocks.take_workspaces()
    ledger = followed.ledger
    workspace_bytes = blocks.workspace_bytes()
    peak = Peak(ledger, moment, workspace_bytes, followed.captured, workspaces)
    attributed_bytes = sum(peak.categories.values())
    peak_bytes = memory.peak_allocated_bytes or attributed_bytes
    details = {
        "peak": {
            "bytes": moment.peak_bytes,
            "phase": moment.phase,
            "operator": moment.operator,
            "number": moment.number,
        },
        "modules": peak.modules(),
        "tensors": peak.tensors(),
        "timeline": timeline(whole.ledger, peak.categories.get("library_workspaces", 0)),
        **_beyond(memory),
    }
    return Attribution(peak.categories, peak_bytes - attributed_bytes, details)


def _capture(subject: Subject, blocks: Blocks, on_phase: OnPhase, whole: Ledger) -> tuple[Followed, Moment]:
    """A step followed again, with the blocks listed at the peak of ``whole``; and the moment that the list is of.

    Where steps repeat, that operator's counters alone are read, and that they are what they were is all there is to
    check. Otherwise the peak may have moved, and is looked for again.
    """
    peak = whole.peak()
    counted = not subject.repeats
    for _ in range(_MOST_CAPTURES):
        wanted = max(peak.number, 1)
        with subject.shortened() if _is_in_first_phase(peak, whole) else nullcontext():
            followed = follow(subject, blocks, on_phase, capture_at=wanted, counted=counted)
        noted = {one.number: one for one in followed.ledger.moments}
        moment = noted.get(wanted, peak)
        if counted:
            peak = followed.ledger.peak()
            is_found = peak.number == wanted
        else:
            is_found = wanted in noted and moment.peak_bytes == peak.peak_bytes
        if is_found:
            break
        counted = True
    # The list is of the operator asked for, whatever the last step's peak was.
    return followed, moment


def _is_in_first_phase(moment: Moment, ledger: Ledger) -> bool:
    return bool(ledger.phases) and moment.phase == ledger.phases[0][0]


def _beyond(memory: Memory) -> dict[str, Any]:
    """``beyond_peak``: what the allocator caches at most, and what the driver sees on top: CUDA's context and the rest.

    Only what the device can tell.
    """
    allocated, reserved, used = memory.peak_allocated_bytes, memory.peak_reserved_bytes, memory.device_used_bytes
    found: dict[str, int] = {}
    if allocated is not None and reserved is not None:
        found["cached_bytes"] = reserved - allocated
    if reserved is not None and used is not None:
        found["context_and_rest_bytes"] = used - reserved
    return {"beyond_peak": found} if found else {}
