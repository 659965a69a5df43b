"""How a lifecycle case is run: bytes, then proof and outputs compared, then time, each on models of its own.

On a device that computes nothing it is bytes, and the proof of what was built.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from lorabench.device.protocol import Device
from lorabench.model.proof import check
from lorabench.record import Proof
from lorabench.runner.job import Emit, Job
from lorabench.runner.telling import Stages, Teller, judge, measured, result, used_of
from lorabench.workload import make_life, schemes
from lorabench.workload.lifecycle import Lifecycle
from lorabench.workload.lifecycle.memory import LifeMemory


def run_life(job: Job, device: Device, emit: Emit) -> None:
    """Run the job's one case; a fault of the case is a result, not an exception. Its files are removed in any case."""
    with closing(make_life(job.cases[0], device, job.trust_remote_code)) as life, warnings.catch_warnings():
        # Rounding in a quantized merge is warned of for every layer; it is measured here.
        warnings.simplefilter("ignore")
        _Run(job, life, device, emit).run()


class _Run:
    def __init__(self, job: Job, life: Lifecycle, device: Device, emit: Emit) -> None:
        self._job = job
        self._life = life
        self._device = device
        self._emit = emit
        self._teller = Teller(emit)
        self._stages = Stages()
        self._proof: Proof | None = None
        self._latency: dict[str, list[float]] = {}
        self._observations: dict[str, Any] = {}

    def run(self) -> None:
        memory = LifeMemory(self._life, self._device, self._teller.enter)
        status, error = "ok", None
        try:
            self._measure(memory)
        except Exception as fault:
            status, error = judge(fault, self._teller.phase)
        self._emit(self._result(memory, status, error))

    def _result(self, memory: LifeMemory, status: str, error: Mapping[str, str] | None) -> dict[str, Any]:
        return result(
            0,
            status,
            error,
            proof=self._proof,
            memory=memory.memory(),
            latency=self._latency,
            tokens_per_s=None,
            observations={**used_of(self._device), **self._observations, "stages_s": self._stages.seconds},
        )

    def _measure(self, memory: LifeMemory) -> None:
        life, device, teller = self._life, self._device, self._teller
        with device.counting():
            with self._stages("build"):
                memory.build()
            if not device.computes:
                self._check(life.count())
            with self._stages("memory"):
                memory.run()
        if not device.computes:
            self._observations["lifecycle"] = life.bytes_told()
            return
        with self._stages("proof"):
            teller.enter("proof")
            self._check(life.prove(teller.enter))
        with self._stages("compare"):
            self._observations["lifecycle"] = life.observe()
        self._emit(measured(self._result(memory, "ok", None)))
        with self._stages("timing"):
            teller.enter("timing")
            self._latency = life.time(teller.pass_by)
        with self._stages("neighbours"):
            teller.enter("neighbours")
            self._observations["lifecycle"] |= life.neighbours()
        if life.case.quantization == "int8":
            with self._stages("schemes"):
                teller.enter("schemes")
                trusted = self._job.trust_remote_code
                self._observations["schemes"] = schemes.observe(life.case, device, trust_remote_code=trusted)

    def _check(self, proof: Proof) -> None:
        self._proof = proof
        if self._life.warnings:
            self._observations["warnings"] = self._life.warnings
        assert self._life.expected is not None
        check(self._life.case, proof, self._life.expected, self._device.type)
