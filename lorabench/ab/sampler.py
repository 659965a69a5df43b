"""Takes samples on one device: starts their processes, and measures one at a time while the others sleep."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Self

from lorabench.ab.process import DEFAULT_WORKER, SampleProcess
from lorabench.case import Case
from lorabench.environment import Target
from lorabench.nvml import nvml
from lorabench.runner.job import Job
from lorabench.runner.outcome import Outcome
from lorabench.runner.waiting import Wait, finish
from lorabench.runner.watch import GpuWatch, NoWatch


class Sampler:
    """Of one device. The processes that it started and that are still there end with it."""

    def __init__(
        self, target: Target, *, trust_remote_code: bool = False, warn: Callable[[str], None] = lambda _: None
    ) -> None:
        """``warn`` is told, once each, what makes times on the device worse than they look."""
        self._target = target
        self._trust_remote_code = trust_remote_code
        self._warn = warn
        self._warned: set[str] = set()
        self._held = ExitStack()
        self._processes: list[SampleProcess] = []
        if target.nvml_index is not None:
            self._held.enter_context(nvml())

    def start(
        self, python: str, *, worker: str = DEFAULT_WORKER, environment: Mapping[str, str] | None = None
    ) -> SampleProcess:
        """A process under ``python``, which imports from now on.

        Raises:
            InputError: ``python`` cannot be started.
        """
        process = SampleProcess(python, self._target, worker=worker, environment=environment)
        self._processes = [known for known in self._processes if not known.closed] + [process]
        return process

    def measure(self, process: SampleProcess, case: Case, repeat: int) -> Outcome:
        """What became of ``case`` in ``process``, which must have been greeted and is over when this returns."""
        # A GPU is the only one that the worker sees.
        spec = self._target.spec if self._target.nvml_index is None else "cuda:0"
        timeout_s = case.measure.timeout_s
        job = Job(
            (case,),
            "single",
            spec,
            repeat,
            timeout_s,
            self._trust_remote_code,
            attribute=False,
            profile=False,
            work=False,
        )
        watch = self._watch()
        outcome = process.run(job, watch)
        finish(_lane(watch))
        return replace(outcome, notes=watch.notes)

    def _watch(self) -> NoWatch:
        return NoWatch() if self._target.nvml_index is None else GpuWatch(self._target.nvml_index, self._say)

    def _say(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            self._warn(text)

    def close(self) -> None:
        for process in self._processes:
            process.close()
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _lane(watch: NoWatch) -> Generator[Wait, None, None]:
    yield from watch.until_gone()
