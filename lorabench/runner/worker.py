"""What a worker process does: one job, told as events. Runs under any interpreter that has the torch stack."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from lorabench.case import Case
from lorabench.device.protocol import Device
from lorabench.device.select import open_device
from lorabench.measure.attribution.attribution import Attribution
from lorabench.measure.attribution.blocks import blocks_of
from lorabench.measure.ceilings import measure_ceilings
from lorabench.measure.phases import UnobservedPhases
from lorabench.model.packaged import must_unpack, unpack
from lorabench.model.proof import check
from lorabench.record import Memory, Proof
from lorabench.runner.job import Emit, Job
from lorabench.runner.life import run_life
from lorabench.runner.telling import HeldBack, Stages, Teller, judge, measured, result, used_of
from lorabench.workload import make_workload
from lorabench.workload.inference import Inference
from lorabench.workload.outputs import compare_arms
from lorabench.workload.passes import (
    TURN_STEPS,
    MemoryPass,
    attribution_pass,
    launch_pass,
    proof_pass,
    snapshot_pass,
    timed_pass,
    work_pass,
)
from lorabench.workload.protocol import Workload


def run_job(job: Job, emit: Emit) -> None:
    """Run ``job`` and tell phases and results through ``emit``; a fault of the case is a result, not an exception."""
    case = job.cases[0]
    if must_unpack(case):
        Teller(emit).enter("unpack")
        unpack(case)
    if job.estimates:
        held = HeldBack(emit)
        _run(job, held)
        if held.result is not None:
            emit(_with_estimates(job, held.result, emit))
    else:
        _run(job, emit)


def _with_estimates(job: Job, result: Mapping[str, Any], emit: Emit) -> Mapping[str, Any]:
    """After the case, so that what they leave in the process cannot change its numbers."""
    [case] = job.cases
    if result["status"] != "ok" or case.task == "lifecycle":
        return result
    Teller(emit).enter("estimates")
    from lorabench.workload.estimates import estimates

    found = estimates(case, trust_remote_code=job.trust_remote_code)
    return {**result, "observations": {**result["observations"], "estimates": found}}


def _run(job: Job, emit: Emit) -> None:
    device = open_device(job.device)
    if job.device.startswith("fake:"):
        # A card that is named has a capacity.
        from lorabench.device.fake import FakeDevice
        from lorabench.runner.on_card import run_on_card

        assert isinstance(device, FakeDevice)
        run_on_card(job, device, emit, _run_on)
    else:
        _run_on(job, device, emit)


def _run_on(job: Job, device: Device, emit: Emit) -> None:
    with device.session():
        if job.mode == "timing":
            _run_timing(job, device, emit)
        elif job.cases[0].task == "lifecycle":
            run_life(job, device, emit)
        else:
            _Single(job, device, emit).run()


class _Single:
    """One case in a process of its own: bytes and what they are, proof, and in mode ``single`` time."""

    def __init__(self, job: Job, device: Device, emit: Emit) -> None:
        self._job = job
        self._case = job.cases[0]
        self._device = device
        self._emit = emit
        self._teller = Teller(emit)
        self._stages = Stages()
        self._blocks = blocks_of(device)
        self._attribution: Attribution | None = None
        self._proof: Proof | None = None
        self._latency: dict[str, list[float]] = {}
        self._observations: dict[str, Any] = {}
        self._warnings: list[str] = []

    def run(self) -> None:
        workload = make_workload(self._case, self._device, self._job.trust_remote_code)
        memory = MemoryPass(workload, self._device, self._teller.enter)
        status, error = "ok", None
        try:
            self._measure(workload, memory)
        except Exception as fault:
            status, error = judge(fault, self._teller.phase)
        self._emit(self._result(workload, memory, status, error))

    def _result(
        self, workload: Workload, memory: MemoryPass, status: str, error: Mapping[str, str] | None
    ) -> dict[str, Any]:
        return result(
            0,
            status,
            error,
            proof=self._proof,
            memory=self._attributed(memory.memory()),
            latency=self._latency,
            tokens_per_s=workload.tokens_per_s(self._latency),
            observations={
                **used_of(self._device),
                **self._observations,
                **({"warnings": self._warnings} if self._warnings else {}),
                "stages_s": self._stages.seconds,
            },
        )

    def _measure(self, workload: Workload, memory: MemoryPass) -> None:
        device, case = self._device, self._case
        with device.counting():
            with self._stages("build"):
                memory.build()
            with self._stages("memory"):
                memory.run()
        if self._job.attribute:
            with self._stages("attribution"):
                self._attribute(workload, memory)
        if self._job.snapshot is not None:
            with self._stages("snapshot"):
                snapshot_pass(workload, self._teller.enter, self._job.snapshot)
        with self._stages("proof"):
            self._proof = proof_pass(workload, device, self._teller.enter)
            assert workload.expected is not None
            check(case, self._proof, workload.expected, device.type)
        if self._job.mode == "single" and device.computes:
            self._emit(measured(self._result(workload, memory, "ok", None)))
            with self._stages("timing"):
                [self._latency] = _timed([workload], self._job, device, self._teller)
                observed = workload.observations()
                self._warnings += observed.pop("warnings", [])
                self._observations |= observed
        if self._job.work and device.computes:
            with self._stages("work"):
                self._count_work(workload)
        if self._job.mode == "single" and self._job.profile and device.computes:
            self._observations |= _launch_bound(
                workload, device, self._teller, self._latency, self._stages, self._warnings.append
            )

    def _attribute(self, workload: Workload, memory: MemoryPass) -> None:
        """A case that was measured stays measured where its bytes cannot be named; the record says why."""
        try:
            self._attribution = attribution_pass(workload, self._blocks, self._teller.enter, memory.memory())
        except Exception as fault:
            if not self._device.computes:
                # What stops a prediction here would make it wrong, too.
                raise
            self._warnings.append(f"no attribution of bytes: {type(fault).__name__}: {fault}")
        else:
            self._observations["attribution"] = self._attribution.details

    def _count_work(self, workload: Workload) -> None:
        """What a step has to do, and what the device can; without it a case stays measured, and the record says why."""
        try:
            work = work_pass(workload, self._teller.pass_by)
            dtypes = {dtype for counted in work.values() for dtype in counted["flops"]}
            ceilings = measure_ceilings(self._device, self._job.known_ceilings, dtypes)
        except Exception as fault:
            self._warnings.append(f"no work counted: {type(fault).__name__}: {fault}")
        else:
            self._observations["work"] = work
            if ceilings:
                self._observations["ceilings"] = ceilings

    def _attributed(self, memory: Memory) -> Memory:
        found = self._attribution
        if found is None:
            return memory
        return replace(memory, categories=found.categories, unattributed_bytes=found.unattributed_bytes)


def _run_timing(job: Job, device: Device, emit: Emit) -> None:
    """A group's cases built side by side and timed in turn; outputs of inference arms compared first."""
    stages, teller = Stages(), Teller(emit)
    workloads = [make_workload(case, device, job.trust_remote_code) for case in job.cases]
    latencies: list[dict[str, list[float]]] = [{} for _ in job.cases]
    observations: list[dict[str, Any]] = [{} for _ in job.cases]
    status, error = "ok", None
    try:
        with stages("build"):
            for index, workload in enumerate(workloads):
                workload.build(UnobservedPhases(partial(teller.enter, case=index)))
                workload.start()
        if all(isinstance(workload, Inference) for workload in workloads):
            with stages("compare"):
                teller.enter("compare")
                logits = [workload.logits() for workload in workloads if isinstance(workload, Inference)]
                observations = compare_arms(job.cases, logits)
        with stages("timing"):
            latencies = _timed(workloads, job, device, teller)
            for workload, observed in zip(workloads, observations, strict=True):
                observed |= workload.observations()
        for workload, observed, latency in zip(workloads, observations, latencies, strict=True):
            warnings: list[str] = []
            observed |= _launch_bound(workload, device, teller, latency, stages, warnings.append)
            if warnings:
                observed["warnings"] = [*observed.get("warnings", []), *warnings]
    except Exception as fault:
        status, error = judge(fault, teller.phase)
    for index, workload in enumerate(workloads):
        emit(
            result(
                index,
                status,
                error,
                proof=None,
                memory=None,
                latency=latencies[index],
                tokens_per_s=workload.tokens_per_s(latencies[index]),
                observations={**observations[index], "turn_steps": TURN_STEPS, "timing_stages_s": stages.seconds},
            )
        )


def _timed(workloads: list[Workload], job: Job, device: Device, teller: Teller) -> list[dict[str, list[float]]]:
    case: Case = job.cases[0]
    teller.enter("timing")
    return timed_pass(
        workloads,
        device,
        teller.pass_by,
        warmup=case.measure.warmup,
        steps=case.measure.steps,
        seed=case.seed + job.repeat,
    )


def _launch_bound(
    workload: Workload,
    device: Device,
    teller: Teller,
    latency: Mapping[str, list[float]],
    stages: Stages,
    warn: Callable[[str], None],
) -> dict[str, Any]:
    """The observation ``launch_bound``; nothing where there is no launch overhead, or no profiler to see it."""
    if device.type != "cuda":
        return {}
    teller.enter("launch")
    try:
        with stages("launch"):
            shares = launch_pass(workload, device, teller.pass_by, latency)
    except RuntimeError as fault:
        # Another profiler is attached, or the card has no room left for this one's buffers: what was measured stands.
        warn(f"no launch-bound share: {type(fault).__name__}: {' '.join(str(fault).split())}")
        return {}
    return {"launch_bound": shares} if shares else {}
