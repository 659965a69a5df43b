"""Workers for the fork server that run a case as the package's own does, and watch it or confine it.

What opens CUDA when it is imported is imported in the worker: tests read names from here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

from lorabench.runner.job import Emit, Job

CAPACITY_FILE_VARIABLE = "LORABENCH_TEST_CAPACITY_FILE"
"""Names a file: the server's environment is that of its start, and one server does for several capacities."""


def on_smaller_card(job: Job, emit: Emit) -> None:
    """On a GPU whose allocator gets the bytes that the capacity file says, and no more."""
    import torch

    from lorabench.runner import worker

    # cudaMemGetInfo's total is what the allocator multiplies the fraction by (setMemoryFraction).
    _, total_bytes = torch.cuda.mem_get_info()
    capacity_bytes = int(Path(os.environ[CAPACITY_FILE_VARIABLE]).read_text(encoding="utf-8"))
    torch.cuda.set_per_process_memory_fraction(capacity_bytes / total_bytes)
    worker.run_job(job, emit)


def list_operators(job: Job, emit: Emit) -> None:
    """Puts ``operators`` into the observations: of the first step that is followed, each with the bytes it makes."""
    from lorabench.measure.attribution.mode import AttributionMode
    from lorabench.runner import worker

    steps: list[list[tuple[str, int]]] = []
    initialise, dispatch = AttributionMode.__init__, AttributionMode.__torch_dispatch__

    def begin(self: Any, *args: Any, **kwargs: Any) -> None:
        initialise(self, *args, **kwargs)
        steps.append([])

    def note(self: Any, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        lives, before = self._ledger.lives, self._ledger.number
        born = len(lives)
        result = dispatch(self, func, types, args, kwargs)
        if self._ledger.number != before:
            steps[-1].append((str(func), sum(life.held_bytes for life in list(lives)[born:])))
        return result

    with (
        patch.object(AttributionMode, "__init__", begin),
        patch.object(AttributionMode, "__torch_dispatch__", note),
    ):
        worker.run_job(job, _Adding(emit, lambda: {"operators": steps[0]} if steps else {}))


def list_turns(job: Job, emit: Emit) -> None:
    """Puts ``turns`` into the observations: of each inference step of the job, its arm and whether it was timed."""
    from lorabench.measure.phases import TimedPhases
    from lorabench.runner import worker
    from lorabench.workload.inference import Inference

    turns: list[tuple[str, bool]] = []
    step = Inference.step

    def note(self: Any, phases: Any) -> None:
        turns.append((self.case.adapter_state, isinstance(phases, TimedPhases)))
        step(self, phases)

    with patch.object(Inference, "step", note):
        worker.run_job(job, _Adding(emit, lambda: {"turns": turns}))


class _Adding:
    """Adds what has been seen by then to the observations of each result."""

    def __init__(self, emit: Emit, seen: Callable[[], Mapping[str, Any]]) -> None:
        self._emit = emit
        self._seen = seen

    def __call__(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "result":
            event = {**event, "observations": {**event["observations"], **self._seen()}}
        self._emit(event)

    def phase(self, name: str, case: int) -> None:
        self._emit.phase(name, case)
