"""Runs works on this machine: a process for each case, and one for each group's timing, forked from one server."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from lorabench.case import Case
from lorabench.environment import Environment, Target, describe_environment
from lorabench.errors import DeviceError
from lorabench.record import Record
from lorabench.runner.connection import ServerConnection, ServerDiedError
from lorabench.runner.job import Job, Mode
from lorabench.runner.launcher import NoProgress, Progress, Work
from lorabench.runner.outcome import Outcome, join, make_record, outcomes

# What a group's timing process can still be asked about after the case's own process.
_WORTH_TIMING = frozenset({"ok", "invalid"})


class LocalLauncher:
    """A :class:`~lorabench.runner.launcher.Launcher` of this machine, for one device and one interpreter.

    The server is started when it is first needed, and again after it died.
    """

    def __init__(
        self,
        target: Target,
        *,
        python: str = sys.executable,
        trust_remote_code: bool = False,
        progress: Progress | None = None,
        server_options: Sequence[str] = (),
    ) -> None:
        """``server_options`` are for tests: another worker, other modules to import first."""
        self._target = target
        self._python = python
        self._trust_remote_code = trust_remote_code
        self._progress = progress or NoProgress()
        self._server_options = server_options
        self._server: ServerConnection | None = None
        self._environment: Environment | None = None

    @property
    def environment(self) -> Environment:
        """Raises ``DeviceError`` if the interpreter's torch cannot use the device."""
        if self._environment is None:
            interpreter = self._connected().hello["interpreter"]
            versions = interpreter["versions"]
            if self._target.device.type == "cuda" and "cuda" not in versions:
                raise DeviceError(f"torch {versions.get('torch')} was built without CUDA: install a CUDA build of it")
            self._environment = describe_environment(self._target, interpreter)
        return self._environment

    def run(self, works: Iterable[Work]) -> Iterator[Record]:
        for work in works:
            yield from self._run_group(work) if self._in_turn(work) else self._run_singly(work)

    def _in_turn(self, work: Work) -> bool:
        # A device that computes nothing has no time to compare.
        return work.grouped and self._target.device.type != "fake"

    def _run_singly(self, work: Work) -> Iterator[Record]:
        for case in work.cases:
            self._progress.started(case, work.repeat)
            started_at = _now()
            [outcome] = self._run_job((case,), "single", work.repeat)
            yield self._record(case, outcome, work.repeat, started_at)

    def _run_group(self, work: Work) -> Iterator[Record]:
        alone: list[tuple[str, Outcome]] = []
        for case in work.cases:
            self._progress.started(case, work.repeat)
            started_at = _now()
            [outcome] = self._run_job((case,), "memory", work.repeat)
            alone.append((started_at, outcome))
        timed = [index for index, (_, outcome) in enumerate(alone) if outcome.status in _WORTH_TIMING]
        in_turn = self._run_job(tuple(work.cases[index] for index in timed), "timing", work.repeat) if timed else []
        timings = dict(zip(timed, in_turn, strict=True))
        for index, (case, (started_at, outcome)) in enumerate(zip(work.cases, alone, strict=True)):
            yield self._record(case, join(outcome, timings.get(index)), work.repeat, started_at)

    def _run_job(self, cases: tuple[Case, ...], mode: Mode, repeat: int) -> list[Outcome]:
        timeout_s = sum(case.measure.timeout_s for case in cases)
        job = Job(cases, mode, self._target.spec, repeat, timeout_s, self._trust_remote_code)
        server = self._connected()
        events: list[Mapping[str, Any]] = []
        phase: str | None = None
        started = time.monotonic()
        try:
            for event in server.run(job):
                events.append(event)
                if event["event"] == "phase":
                    phase = event["phase"]
                    self._progress.phase(cases[event["case"]], event["phase"])
        except ServerDiedError as death:
            self._server = None
            error = {"type": "ServerDied", "message": str(death), "phase": phase}
            events.append({"event": "end", "status": "failed", "error": error, "case": None})
        except BaseException:
            # Whatever ends the wait ends the worker.
            self.close()
            raise
        return outcomes(job, events, time.monotonic() - started)

    def _record(self, case: Case, outcome: Outcome, repeat: int, started_at: str) -> Record:
        return make_record(case, outcome, environment=self.environment, repeat=repeat, started_at=started_at)

    def _connected(self) -> ServerConnection:
        if self._server is None:
            self._server = ServerConnection(self._python, self._server_options)
        return self._server

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
