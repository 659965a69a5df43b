"""The passes over a built workload: bytes, proof, warm-up and time, each for itself so that none disturbs another."""

from __future__ import annotations

import random
from collections.abc import Sequence

from lorabench.device.protocol import Device
from lorabench.measure.phases import MemoryPhases, OnPhase, TimedPhases, UnobservedPhases
from lorabench.model.proof import count, observe_step
from lorabench.record import Memory, Proof
from lorabench.workload.protocol import Workload

STEADY_STEPS = 2
"""Steps of the memory pass that count, after the unsteady ones."""


class MemoryPass:
    """Builds a workload and reads its bytes; :meth:`memory` tells what is known so far, also after a failure."""

    def __init__(self, workload: Workload, device: Device, on_phase: OnPhase) -> None:
        self._workload = workload
        self._device = device
        self._phases = MemoryPhases(device, on_phase)
        self._static_bytes: int | None = None
        self._built: set[str] = set()

    def build(self) -> None:
        self._workload.build(self._phases)
        self._built = set(self._phases.phases)
        self._device.settle()
        self._device.reset_peak()
        self._static_bytes = self._device.allocated_bytes()
        # The reserved peak counts from after attaching; loading keeps its allocated peak in phases.load.
        self._phases.peak_allocated_bytes = 0
        self._phases.peak_reserved_bytes = None
        self._workload.start()

    def run(self) -> None:
        for step in range(self._workload.unsteady_steps + STEADY_STEPS):
            if step == self._workload.unsteady_steps:
                self._phases.forget(*(name for name in self._phases.phases if name not in self._built))
            self._workload.step(self._phases)

    def memory(self) -> Memory:
        peak_bytes = self._phases.peak_allocated_bytes or None
        static_bytes = self._static_bytes
        dynamic_bytes = peak_bytes - static_bytes if peak_bytes is not None and static_bytes is not None else None
        return Memory(
            static_bytes=static_bytes,
            dynamic_bytes=dynamic_bytes,
            peak_allocated_bytes=peak_bytes,
            peak_reserved_bytes=self._phases.peak_reserved_bytes,
            device_used_bytes=self._phases.device_used_bytes,
            phases=dict(self._phases.phases),
        )


def proof_pass(workload: Workload, device: Device, on_phase: OnPhase) -> Proof:
    """What was built and what one watched step did; without values (fake) what was built alone.

    It comes after the memory pass, because the first step's gradients of lora_A are all zero: B is.
    """
    on_phase("proof")
    if not device.computes:
        return count(workload.model, workload.case, device.torch_device, None, workload.optimizer)
    with observe_step(workload.model, workload.case) as seen:
        workload.step(UnobservedPhases(on_phase))
    return count(workload.model, workload.case, device.torch_device, seen, workload.optimizer)


def timed_pass(
    workloads: Sequence[Workload], device: Device, on_phase: OnPhase, *, warmup: int, steps: int, seed: int
) -> list[dict[str, list[float]]]:
    """Seconds of every phase and of the whole step for each workload, ``steps`` samples each, in the order taken.

    Several workloads run in turn, in an order that is shuffled anew in every round, so that a drift of the machine
    meets all of them and none always follows the same neighbour. ``on_phase`` is called within timed steps.
    """
    on_phase("warm-up")
    silent = UnobservedPhases(_nothing)
    for _ in range(warmup):
        for workload in workloads:
            workload.step(silent)
    device.synchronize()
    timed = [TimedPhases(device, on_phase) for _ in workloads]
    order = list(range(len(workloads)))
    shuffle = random.Random(seed).shuffle
    for _ in range(steps):
        shuffle(order)
        for index in order:
            with timed[index].step():
                workloads[index].step(timed[index])
    return [workload.latency(phases.samples_s()) for workload, phases in zip(workloads, timed, strict=True)]


def _nothing(phase: str) -> None:
    """Warm-up steps are one stage; their phases are not worth telling."""
