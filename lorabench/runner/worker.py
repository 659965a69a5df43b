"""What a worker process does: one job, told as events. Runs under any interpreter that has the torch stack."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from lorabench.case import Case
from lorabench.device.protocol import Device
from lorabench.device.select import open_device
from lorabench.errors import InvalidCaseError
from lorabench.model.proof import check
from lorabench.record import Memory, Proof
from lorabench.runner.job import Emit, Job
from lorabench.runner.memory_errors import is_out_of_memory
from lorabench.workload import make_workload
from lorabench.workload.inference import Inference
from lorabench.workload.outputs import compare_arms
from lorabench.workload.passes import MemoryPass, proof_pass, timed_pass
from lorabench.workload.protocol import Workload
from lorabench.workload.training import Training


def run_job(job: Job, emit: Emit) -> None:
    """Run ``job`` and tell phases and results through ``emit``; a fault of the case is a result, not an exception."""
    device = open_device(job.device)
    with device.session():
        if job.mode == "timing":
            _run_timing(job, device, emit)
        else:
            _Single(job, device, emit).run()


class _Stages:
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


class _Single:
    """One case in a process of its own: bytes, proof, and in mode ``single`` time."""

    def __init__(self, job: Job, device: Device, emit: Emit) -> None:
        self._job = job
        self._case = job.cases[0]
        self._device = device
        self._emit = emit
        self._stages = _Stages()
        self._phase = "load"
        self._proof: Proof | None = None
        self._latency: dict[str, list[float]] = {}
        self._observations: dict[str, Any] = {}

    def run(self) -> None:
        workload = make_workload(self._case, self._device, self._job.trust_remote_code)
        memory = MemoryPass(workload, self._device, self._enter)
        status, error = "ok", None
        try:
            self._measure(workload, memory)
        except InvalidCaseError as refused:
            status, error = "invalid", _error(refused, self._phase)
        except BaseException as fault:
            if not isinstance(fault, Exception) or not is_out_of_memory(fault):
                raise
            status, error = "oom", _error(fault, self._phase)
        self._emit(
            _result(
                0,
                status,
                error,
                proof=self._proof,
                memory=memory.memory(),
                latency=self._latency,
                tokens_per_s=workload.tokens_per_s(self._latency),
                observations={**self._observations, "stages_s": self._stages.seconds},
            )
        )

    def _measure(self, workload: Workload, memory: MemoryPass) -> None:
        device, case = self._device, self._case
        with device.counting():
            with self._stages("build"):
                memory.build()
            with self._stages("memory"):
                memory.run()
        with self._stages("proof"):
            self._proof = proof_pass(workload, device, self._enter)
            assert workload.expected is not None
            check(case, self._proof, workload.expected, device.type)
        if self._job.mode == "single" and device.computes:
            with self._stages("timing"):
                self._latency = _timed([workload], self._job, device, self._emit)[0]
            if isinstance(workload, Training) and workload.losses is not None:
                # A diverged loss is a finding; JSON has no word for it but null.
                values = [float(loss) for loss in workload.losses]
                self._observations["losses"] = [value if math.isfinite(value) else None for value in values]

    def _enter(self, phase: str) -> None:
        self._phase = phase
        self._emit({"event": "phase", "phase": phase, "case": 0})


def _run_timing(job: Job, device: Device, emit: Emit) -> None:
    """A group's cases built side by side and timed in turn; outputs of inference arms compared first."""
    stages = _Stages()
    phase = "load"

    def enter(name: str) -> None:
        nonlocal phase
        phase = name
        emit({"event": "phase", "phase": name, "case": 0})

    workloads = [make_workload(case, device, job.trust_remote_code) for case in job.cases]
    latencies: list[dict[str, list[float]]] = [{} for _ in job.cases]
    observations: list[dict[str, Any]] = [{} for _ in job.cases]
    status, error = "ok", None
    try:
        with stages("build"):
            _build_all(workloads, enter)
        if all(isinstance(workload, Inference) for workload in workloads):
            with stages("compare"):
                enter("compare")
                logits = [workload.logits() for workload in workloads if isinstance(workload, Inference)]
                observations = compare_arms(job.cases, logits)
        with stages("timing"):
            latencies = _timed(workloads, job, device, emit)
    except InvalidCaseError as refused:
        status, error = "invalid", _error(refused, phase)
    except Exception as fault:
        if not is_out_of_memory(fault):
            raise
        status, error = "oom", _error(fault, phase)
    for index, workload in enumerate(workloads):
        emit(
            _result(
                index,
                status,
                error,
                proof=None,
                memory=None,
                latency=latencies[index],
                tokens_per_s=workload.tokens_per_s(latencies[index]),
                observations={**observations[index], "timing_stages_s": stages.seconds},
            )
        )


def _build_all(workloads: list[Workload], enter: Callable[[str], None]) -> None:
    from lorabench.measure.phases import UnobservedPhases

    for workload in workloads:
        workload.build(UnobservedPhases(enter))
        workload.start()


def _timed(workloads: list[Workload], job: Job, device: Device, emit: Emit) -> list[dict[str, list[float]]]:
    case: Case = job.cases[0]
    for workload in workloads:
        if isinstance(workload, Training):
            workload.losses = []
    emit({"event": "phase", "phase": "timing", "case": 0})
    return timed_pass(
        workloads,
        device,
        lambda phase: emit.phase(phase, 0),
        warmup=case.measure.warmup,
        steps=case.measure.steps,
        seed=case.seed + job.repeat,
    )


def _error(fault: BaseException, phase: str) -> dict[str, str]:
    message = " ".join(str(fault).split())
    return {"type": type(fault).__name__, "message": message, "phase": phase}


def _result(
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
