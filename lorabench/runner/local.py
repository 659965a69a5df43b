"""Runs works on this machine: a process for each case, and one for each group's timing, forked from one server."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from lorabench.case import Case
from lorabench.environment import Environment, Target, describe_environment
from lorabench.errors import DeviceError, InputError
from lorabench.nvml import nvml
from lorabench.record import Record
from lorabench.runner.connection import ServerConnection, ServerDiedError
from lorabench.runner.job import Job, Mode
from lorabench.runner.launcher import NoProgress, Progress, Work
from lorabench.runner.outcome import Outcome, join, make_record, outcomes
from lorabench.runner.waiting import Wait, finish, merge
from lorabench.runner.watch import GpuWatch, NoWatch

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
        attribute: bool = True,
        estimates: bool = False,
        progress: Progress | None = None,
        server_options: Sequence[str] = (),
    ) -> None:
        """``attribute`` is off for who needs no categories of the bytes: they take a step more, and a slow one.

        ``estimates`` puts what people use instead of a prediction into each record: seconds to minutes a case.

        ``server_options`` are for tests: another worker, other modules to import first.
        """
        self._target = target
        self._python = python
        self._trust_remote_code = trust_remote_code
        self._attribute = attribute
        self._estimates = estimates
        self._progress = progress or NoProgress()
        self._server_options = server_options
        self._server: ServerConnection | None = None
        self._environment: Environment | None = None
        self._nvml = ExitStack()
        self._warned: set[str] = set()
        # Measured once for all cases of a run.
        self._ceilings: set[str] = set()

    @property
    def environment(self) -> Environment:
        """Raises ``DeviceError`` if the interpreter's torch cannot use the device."""
        return self._environment or self._describe(finish(self._ready()))

    @property
    def environments(self) -> Sequence[Environment]:
        return (self.environment,)

    def run(self, works: Iterable[Work]) -> Iterator[Record]:
        return merge([self.steps(iter(works))])

    def trace(self, case: Case, snapshot: str | None = None) -> Record:
        """The record of ``case`` without times; ``snapshot`` names a file for PyTorch's memory snapshot, on CUDA."""
        self._progress.started(case, 0)
        started_at = _now()
        [outcome] = finish(self._run_job((case,), "memory", 0, snapshot, work=False))
        return self._record(case, outcome, 0, started_at)

    def steps(self, works: Iterator[Work]) -> Generator[Wait | Record, None, None]:
        """As :meth:`run`, for who follows several launchers: where it must wait, it yields what for.

        ``works`` may be shared: the next one is taken when this launcher is free.
        """
        for work in works:
            yield from self._run_group(work) if self._in_turn(work) else self._run_singly(work)

    def _in_turn(self, work: Work) -> bool:
        # A device that computes nothing has no time to compare.
        return work.grouped and self._target.device.type != "fake"

    def _run_singly(self, work: Work) -> Generator[Wait | Record, None, None]:
        for case in work.cases:
            self._progress.started(case, work.repeat)
            started_at = _now()
            [outcome] = yield from self._run_job((case,), "single", work.repeat)
            yield self._record(case, outcome, work.repeat, started_at)

    def _run_group(self, work: Work) -> Generator[Wait | Record, None, None]:
        alone: list[tuple[str, Outcome]] = []
        for case in work.cases:
            self._progress.started(case, work.repeat)
            started_at = _now()
            [outcome] = yield from self._run_job((case,), "memory", work.repeat)
            alone.append((started_at, outcome))
        timed = [index for index, (_, outcome) in enumerate(alone) if outcome.status in _WORTH_TIMING]
        together = tuple(work.cases[index] for index in timed)
        in_turn = (yield from self._run_job(together, "timing", work.repeat)) if together else []
        if len(together) > 1 and all(outcome.status == "oom" for outcome in in_turn):
            in_turn = yield from self._time_apart(together, in_turn, work.repeat)
        timings = dict(zip(timed, in_turn, strict=True))
        for index, (case, (started_at, outcome)) in enumerate(zip(work.cases, alone, strict=True)):
            yield self._record(case, join(outcome, timings.get(index)), work.repeat, started_at)

    def _time_apart(
        self, cases: tuple[Case, ...], together: Sequence[Outcome], repeat: int
    ) -> Generator[Wait, None, list[Outcome]]:
        """Arms that did not fit side by side, each in a process of its own: their times are not compared."""
        apart = []
        for case, before in zip(cases, together, strict=True):
            [outcome] = yield from self._run_job((case,), "timing", repeat)
            told = f"timed alone, not in turn: the {len(cases)} arms of its group do not fit side by side"
            notes = replace(outcome.notes, warnings=[told, *outcome.notes.warnings])
            apart.append(replace(outcome, wall_s=before.wall_s + outcome.wall_s, notes=notes))
        return apart

    def _run_job(
        self, cases: tuple[Case, ...], mode: Mode, repeat: int, snapshot: str | None = None, *, work: bool = True
    ) -> Generator[Wait, None, list[Outcome]]:
        timeout_s = sum(case.measure.timeout_s for case in cases)
        job = Job(
            cases,
            mode,
            self._spec,
            repeat,
            timeout_s,
            trust_remote_code=self._trust_remote_code,
            snapshot=snapshot,
            attribute=self._attribute,
            work=work,
            known_ceilings=tuple(sorted(self._ceilings)),
            estimates=self._estimates,
        )
        server = yield from self._ready()
        started = time.monotonic()
        watch = self._watch()
        events: list[Mapping[str, Any]] = []
        phase: str | None = None
        try:
            for step in server.run(job):
                if isinstance(step, Wait):
                    yield step
                    continue
                events.append(step)
                watch.heard(step)
                if step["event"] == "phase":
                    phase = step["phase"]
                    self._progress.phase(cases[step["case"]], step["phase"])
        except ServerDiedError as death:
            self._server = None
            error = {"type": "ServerDied", "message": str(death), "phase": phase}
            events.append({"event": "end", "status": "failed", "error": error, "case": None})
        except BaseException:
            # Whatever ends the wait ends the worker.
            self.close()
            raise
        for event in events:
            self._ceilings.update(event.get("observations", {}).get("ceilings", ()))
        yield from watch.until_gone()
        found = outcomes(job, events, time.monotonic() - started)
        return [replace(outcome, notes=watch.notes) for outcome in found]

    def _record(self, case: Case, outcome: Outcome, repeat: int, started_at: str) -> Record:
        return make_record(case, outcome, environment=self.environment, repeat=repeat, started_at=started_at)

    @property
    def _spec(self) -> str:
        """The device as the worker has it: a GPU is the only one that it sees, so that it cannot touch another."""
        return self._target.spec if self._target.nvml_index is None else "cuda:0"

    def _watch(self) -> NoWatch:
        return NoWatch() if self._target.nvml_index is None else GpuWatch(self._target.nvml_index, self._warn)

    def _warn(self, text: str) -> None:
        """On progress; what was said once is not said again for every case."""
        if text not in self._warned:
            self._warned.add(text)
            self._progress.warning(f"{self._target.spec}: {text}")

    def start(self) -> ServerConnection:
        """Starts the server unless it runs; does not wait for it."""
        if self._server is None:
            visible = {}
            if self._target.nvml_index is not None:
                self._nvml.enter_context(nvml())
                visible = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": str(self._target.nvml_index)}
            self._server = ServerConnection(self._python, self._server_options, visible)
        return self._server

    def _ready(self) -> Generator[Wait, None, ServerConnection]:
        server = self.start()
        try:
            yield from server.greet()
        except InputError:
            self._server = None
            raise
        # Before the first case, so that it tells who else is on the GPU.
        self._describe(server)
        return server

    def _describe(self, server: ServerConnection) -> Environment:
        if self._environment is None:
            interpreter = server.hello["interpreter"]
            versions = interpreter["versions"]
            if self._target.device.type == "cuda" and "cuda" not in versions:
                raise DeviceError(f"torch {versions.get('torch')} was built without CUDA: install a CUDA build of it")
            self._environment = describe_environment(self._target, interpreter)
        return self._environment

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self._nvml.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
