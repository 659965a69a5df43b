"""What a worker says of a job: where it is, how long its stages took, and the result of each case."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from lorabench.device.protocol import Device
from lorabench.errors import InvalidCaseError
from lorabench.memory_errors import is_out_of_memory
from lorabench.record import Memory, Proof
from lorabench.runner.job import Emit


class Stages:
    """Wall seconds of what a job does, by stage: what remains of a case's wall time is the bench's own cost."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


class Teller:
    """Tells the parent where the job is, and remembers it for the error of a record."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self.phase = "load"

    def enter(self, phase: str, case: int = 0) -> None:
        self.phase = phase
        self._emit({"event": "phase", "phase": phase, "case": case})

    def pass_by(self, phase: str) -> None:
        """For phases inside timed steps, which no write to a pipe may slow."""
        self.phase = phase
        self._emit.phase(phase, 0)


class HeldBack:
    """Passes phases on, if to anybody, and keeps the result."""

    def __init__(self, emit: Emit | None) -> None:
        self._emit = emit
        self.result: Mapping[str, Any] | None = None

    def __call__(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "result":
            self.result = event
        elif self._emit is not None:
            self._emit(event)

    def phase(self, name: str, case: int) -> None:
        if self._emit is not None:
            self._emit.phase(name, case)


def judge(fault: Exception, phase: str) -> tuple[str, dict[str, str]]:
    """The status and error of a record; a fault that is neither a refusal nor full memory is raised again."""
    if isinstance(fault, InvalidCaseError):
        status = "invalid"
    elif is_out_of_memory(fault):
        status = "oom"
    else:
        raise fault
    return status, {"type": type(fault).__name__, "message": " ".join(str(fault).split()), "phase": phase}


def result(
    index: int,
    status: str,
    error: Mapping[str, str] | None,
    *,
    proof: Proof | None,
    memory: Memory | None,
    latency: Mapping[str, list[float]],
    tokens_per_s: float | None,
    observations: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "event": "result",
        "case": index,
        "status": status,
        "error": error,
        "proof": None if proof is None else asdict(proof),
        "memory": None if memory is None else asdict(memory),
        "latency": latency,
        "tokens_per_s": tokens_per_s,
        "observations": observations,
    }


def used_of(device: Device) -> dict[str, str]:
    """What ``memory.device_used_bytes`` of the record is of, as an observation; none where no driver was asked."""
    return {} if device.device_used_of is None else {"device_used_of": device.device_used_of}


def measured(so_far: Mapping[str, Any]) -> dict[str, Any]:
    """A result that is not the last word: what is kept of its case where the job ends without one."""
    return {**so_far, "event": "measured"}
