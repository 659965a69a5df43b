"""A job: what one worker process is asked to do, and the events with which it answers. Standard library only.

Parent, server and worker speak JSON Lines over pipes of their own (never over stdout: libraries print). A worker is a
callable ``run_job(job: Job, emit: Emit) -> None``. It answers with events, each a mapping with ``event``:

- ``{"event": "phase", "phase": NAME, "case": INDEX}`` on entering a phase (or a stage such as ``warm-up``);
- ``{"event": "result", "case": INDEX, "status": ..., "error": {...} | None, "proof": {...} | None, "memory": {...} |
  None, "latency": {PHASE: [SECONDS, ...]}, "tokens_per_s": ..., "observations": {...}}`` once for each case of the job,
  as soon as it is known; of times it sends the samples alone;
- ``{"event": "measured", ...}`` with the fields of a result before a case is timed: a process that ends while it times
  leaves that.

Events must be JSON without NaN or infinity; one that is not raises in the worker, and what escapes from the worker
becomes the record of every case that has no result yet.

A worker that ends without a result for a case died; the launcher makes that case's record from the last phase and
the way the process ended. The server tells both in its last event of a job:

- ``{"event": "end", "status": ..., "error": {"type": ..., "message": ..., "phase": ...}, "case": INDEX | None}``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from lorabench.case import Case, case_from_dict

Mode = Literal["single", "memory", "timing"]


class Emit(Protocol):
    """How a worker answers."""

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Send ``event`` to the parent: one write to a pipe, so not for use between timed marks."""

    def phase(self, name: str, case: int) -> None:
        """Note the phase, sending nothing: a copy of 64 bytes into memory shared with the server, no system call.

        For phases inside timed steps. The server reads it if the process dies; the progress display does not see it.
        """


Worker = Callable[["Job", Emit], None]


@dataclass(frozen=True)
class Job:
    """``single``: one case, memory and latency. A group's cases get a ``memory`` job each and one ``timing`` job.

    ``snapshot`` is a file for PyTorch's memory snapshot of one steady step, on CUDA alone. ``attribute`` says whether
    one more step is followed to tell what the bytes at the peak are, ``profile`` whether, on CUDA, one is profiled to
    tell its launch overhead, ``work`` whether the work of one is counted; then the device's ceilings are measured that
    are not among ``known_ceilings``, too. ``estimates`` asks for what people use instead of a prediction.
    """

    cases: tuple[Case, ...]
    mode: Mode
    device: str
    repeat: int
    timeout_s: float
    trust_remote_code: bool = False
    snapshot: str | None = None
    attribute: bool = True
    profile: bool = True
    work: bool = True
    known_ceilings: tuple[str, ...] = ()
    estimates: bool = False

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "cases": [case.to_dict() for case in self.cases]}


def job_from_dict(data: Mapping[str, Any]) -> Job:
    cases = tuple(case_from_dict(case) for case in data["cases"])
    return Job(**{**data, "cases": cases, "known_ceilings": tuple(data["known_ceilings"])})
