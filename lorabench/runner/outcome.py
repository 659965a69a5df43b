"""From a worker's events to records: one process's results of a case, and how a case's two processes are joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from lorabench.case import Case
from lorabench.environment import Environment
from lorabench.measure.latency import summarise
from lorabench.record import Record
from lorabench.results import MalformedError, record_from_dict
from lorabench.runner.job import Job
from lorabench.runner.watch import Notes

_PARTS = ("proof", "memory", "tokens_per_s")
# A record has one status; of a case that ran in two processes it is the worse. What ended without a measurement is
# worse than what was measured and refused.
_WORSE = ("ok", "invalid", "oom", "timeout", "failed")


@dataclass(frozen=True)
class Outcome:
    """What one job found out about one of its cases, as plain data, and the job's seconds that are the case's.

    ``notes`` are what the parent saw of the device meanwhile.
    """

    status: str
    error: Mapping[str, Any] | None
    wall_s: float
    results: Mapping[str, Any] = field(default_factory=dict)
    notes: Notes = field(default_factory=Notes)


def outcomes(job: Job, events: Sequence[Mapping[str, Any]], wall_s: float) -> list[Outcome]:
    """One outcome for each case of ``job``, whose process is over; it is shared out evenly what time it took.

    Of a case without a result, what had been measured before the process ended is kept.
    """
    share_s = wall_s / len(job.cases)
    results, measured = (
        {event["case"]: event for event in events if event["event"] == kind} for kind in ("result", "measured")
    )
    raised = next((event for event in events if event["event"] == "raised"), None)
    end = next(event for event in events if event["event"] == "end")
    lost = Outcome(end["status"], end["error"], share_s)
    if raised is not None and lost.error is not None and lost.error["type"] == "ExitStatus":
        error = {**lost.error, "type": raised["type"], "message": raised["message"]}
        lost = Outcome(raised["status"], error, share_s)
    found = {index: Outcome(event["status"], event["error"], share_s, event) for index, event in results.items()}
    kept = {index: replace(lost, results=event) for index, event in measured.items()}
    return [found.get(index, kept.get(index, lost)) for index in range(len(job.cases))]


def join(memory: Outcome, timing: Outcome | None) -> Outcome:
    """Of a group's case: memory and proof from its own process, latency and outputs from the group's."""
    if timing is None:
        return memory
    timing_is_worse = _WORSE.index(timing.status) > _WORSE.index(memory.status)
    worse, name = (timing, "timing") if timing_is_worse else (memory, "memory")
    error = worse.error and {**worse.error, "message": f"{name}: {worse.error['message']}"}
    seen = [outcome.results.get("observations", {}) for outcome in (memory, timing)]
    observations = {**seen[0], **seen[1]}
    if warnings := [text for observed in seen for text in observed.get("warnings", ())]:
        observations["warnings"] = warnings
    results = {
        "proof": memory.results.get("proof") or timing.results.get("proof"),
        "memory": memory.results.get("memory"),
        "latency": timing.results.get("latency", {}),
        "tokens_per_s": timing.results.get("tokens_per_s"),
        "observations": observations,
    }
    notes = Notes(
        {**memory.notes.device, **timing.notes.device},
        list(dict.fromkeys(memory.notes.warnings + timing.notes.warnings)),
    )
    return Outcome(worse.status, error, memory.wall_s + timing.wall_s, results, notes)


def make_record(case: Case, outcome: Outcome, *, environment: Environment, repeat: int, started_at: str) -> Record:
    """The record of ``case``. A result that is no valid record makes it ``failed``: the worker is at fault."""
    data: dict[str, Any] = {
        "type": "record",
        "environment": environment.id,
        "key": case.key,
        "name": case.name,
        "scenario": case.scenario,
        "group": case.group,
        "case": case.to_dict(),
        "status": outcome.status,
        "error": outcome.error,
        "source": "predicted" if environment.device.type == "fake" else "measured",
        "device": {"type": environment.device.type, "name": environment.device.name},
        "seed": case.seed,
        "repeat": repeat,
        "started_at": started_at,
        "wall_s": outcome.wall_s,
    }
    try:
        # Statistics of samples that are no numbers raise TypeError or ValueError.
        measured = _measured(outcome.results, case.seed + repeat)
        return record_from_dict({**data, **measured, "observations": _observations(outcome)})
    except (MalformedError, TypeError, ValueError) as error:
        why = {"type": "MalformedResult", "message": f"the worker's result is no record: {error}", "phase": None}
        return record_from_dict({**data, "status": "failed", "error": why})


def _measured(results: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The parts of a record that the worker found out; of times it sends samples alone."""
    parts = {name: results[name] for name in _PARTS if results.get(name) is not None}
    samples = results.get("latency") or {}
    return {**parts, "latency": {phase: asdict(summarise(samples[phase], seed)) for phase in samples}}


def _observations(outcome: Outcome) -> Any:
    """The worker's, which may be anything, with the parent's notes."""
    observations = outcome.results.get("observations")
    if observations is None:
        observations = {}
    if not isinstance(observations, Mapping):
        return observations
    notes: dict[str, Any] = {}
    if outcome.notes.device:
        notes["device"] = outcome.notes.device
    if outcome.notes.warnings:
        notes["warnings"] = [*observations.get("warnings", ()), *outcome.notes.warnings]
    return {**observations, **notes}
