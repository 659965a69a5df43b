"""The passes over a built workload: bytes, what the bytes are, proof, time and launch overhead, each for itself so that
none disturbs another.

What a timed sample means on CUDA. A phase's marks are events in the stream, so a sample is the time between the moments
at which the GPU passes them, never the host's. The host runs ahead of the GPU as far as it can and is not held back
between training steps, as in a bare loop. So a phase costs what it adds to a step of that loop: where kernels take
longer than launches it is the GPU's time, and launches are free; where the host is the slower one it is the host's, and
the GPU waits; and a phase whose launches fit into the lead that the one before has given the host (the optimizer's,
after a backward pass) costs its kernels alone. Prefill and decode are quoted each for itself, and so the workload waits
between them.

The lead must be the workload's own. After its warm-up, a workload that runs alone has the lead that it has in a bare
loop, and nothing waits in between. In a group the lead is another arm's: a launch-bound arm after a GPU-bound one would
find its launches done, and vice versa. So arms take turns: first the device is waited for, then a step that is not
timed gives the arm its own lead (and its own lines in the caches), and the step that follows is one of its bare loop.
Where turns had four timed steps, on an H100 the first of them was 0.4% shorter than the others at the median over 30
trainings, and the same as the others over 46 inferences: one step is enough to lead.

A turn is one timed step, and a round has a turn of every arm, because a machine that others share is slow for seconds
and quick again. Steps of one turn meet the same state of it, so a turn of four has little more to say than a turn of
one; and what all arms of a round meet alike drops out of their ratio (:mod:`lorabench.analysis.claims.timing`).

Python's garbage collector stays on, as in a bare loop. It has next to nothing to do there: 40 training steps of a small
Llama start one to five collections of the youngest generation, 0.1 ms each, and no full one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from lorabench.device.protocol import Device
from lorabench.measure.attribution.attribution import Attribution, attribute
from lorabench.measure.attribution.blocks import Blocks
from lorabench.measure.attribution.holders import tensors_in
from lorabench.measure.attribution.observe import Subject
from lorabench.measure.launch import ProfiledPhases, launch_bound
from lorabench.measure.phases import MemoryPhases, OnPhase, TimedPhases, UnobservedPhases
from lorabench.measure.work import CountedPhases
from lorabench.model.proof import count, observe_step
from lorabench.record import Memory, Proof
from lorabench.workload.protocol import Buildable, Workload

STEADY_STEPS = 2
"""Steps of the memory pass that count, after the unsteady ones."""
TURN_STEPS = 1
"""Timed steps of an arm before it is another's turn. Records of a group tell it (``observations.turn_steps``)."""


class MemoryReading:
    """Builds what is measured and reads its bytes; :meth:`memory` tells what is known so far, also after a failure."""

    def __init__(self, built: Buildable, device: Device, on_phase: OnPhase) -> None:
        self._buildable = built
        self._device = device
        self._phases = MemoryPhases(device, on_phase)
        self._static_bytes: int | None = None
        self._built: set[str] = set()

    def build(self) -> None:
        self._buildable.build(self._phases)
        self._built = set(self._phases.phases)
        self._device.settle()
        self._device.reset_peak()
        self._static_bytes = self._device.allocated_bytes()
        # The reserved peak counts from after attaching; loading keeps its allocated peak in phases.load.
        self._phases.peak_allocated_bytes = 0
        self._phases.peak_reserved_bytes = None
        self._buildable.start()

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


class MemoryPass(MemoryReading):
    """The bytes of a workload's steady steps."""

    def __init__(self, workload: Workload, device: Device, on_phase: OnPhase) -> None:
        super().__init__(workload, device, on_phase)
        self._workload = workload

    def run(self) -> None:
        # On the fake device one steady step is like the other, and nothing but steps takes its time.
        steady_steps = STEADY_STEPS if self._device.computes else 1
        for step in range(self._workload.unsteady_steps + steady_steps):
            if step == self._workload.unsteady_steps:
                self._phases.forget(*(name for name in self._phases.phases if name not in self._built))
            self._workload.step(self._phases)


def attribution_pass(workload: Workload, blocks: Blocks, on_phase: OnPhase, memory: Memory) -> Attribution:
    """What the bytes at the peak are, from one more steady step, on CUDA from two to four.

    It comes after the memory pass, whose peak ``memory`` has. ``blocks`` were made before anything was built.
    """
    on_phase("attribution")
    inputs = [tensor for value in vars(workload).values() for tensor in tensors_in(value)]
    subject = Subject(
        workload.step,
        workload.model,
        workload.optimizer,
        inputs,
        workload.shortened,
        repeats=not workload.case.splits_outliers,
    )
    return attribute(subject, blocks, memory, _nothing)


def snapshot_pass(workload: Workload, on_phase: OnPhase, path: str) -> None:
    """PyTorch's own memory snapshot of one steady step into ``path``, for its viewer; on CUDA alone.

    It holds every allocation and free of the step with its Python stack: https://docs.pytorch.org/memory_viz.
    """
    on_phase("snapshot")
    torch.cuda.memory._record_memory_history("all", stacks="python", clear_history=True)
    try:
        workload.step(UnobservedPhases(_nothing))
        torch.cuda.memory._dump_snapshot(path)
    finally:
        torch.cuda.memory._record_memory_history(None)


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
    """Seconds of every phase for each workload, ``steps`` samples each, in the order taken; see the module's text.

    ``warmup`` steps of each workload come first. ``on_phase`` is called within timed steps.
    """
    on_phase("warm-up")
    silent = UnobservedPhases(_nothing)
    for workload in workloads:
        workload.begin_timing()
        for _ in range(warmup):
            workload.step(silent)
    timed = [TimedPhases(device, on_phase) for _ in workloads]
    for index in _turns(len(workloads), steps, seed):
        workload, phases = workloads[index], timed[index]
        if len(workloads) > 1:
            device.synchronize()
            with workload.shortened():
                workload.step(silent)
        with phases.step():
            workload.step(phases)
    return [workload.latency(phases.samples_s()) for workload, phases in zip(workloads, timed, strict=True)]


def _turns(arms: int, steps: int, seed: int) -> Iterator[int]:
    """Which arm takes the next timed step: rounds in an order that is shuffled anew for each.

    So none always follows the same neighbour.
    """
    order = list(range(arms))
    shuffle = random.Random(seed).shuffle
    for _ in range(steps):
        shuffle(order)
        yield from order


def launch_pass(
    workload: Workload, device: Device, on_phase: OnPhase, latency: Mapping[str, list[float]]
) -> dict[str, dict[str, float]]:
    """Launch overhead of each timed phase (:mod:`lorabench.measure.launch`) from one profiled, shortened step.

    CUDA alone, and after everything else: the profiler stays in the process. ``latency`` is the timed pass's.
    """
    phases = ProfiledPhases(device, on_phase)
    with workload.shortened():
        workload.step(phases)
        busy = workload.latency(phases.samples_s())
    return launch_bound(busy, latency)


def work_pass(workload: Workload, on_phase: OnPhase) -> dict[str, Any]:
    """What one more step has to do, by phase (:mod:`lorabench.measure.work`); a decode is that of one token."""
    phases = CountedPhases(on_phase)
    with workload.shortened():
        workload.step(phases)
        return phases.work(workload.latency)


def _nothing(phase: str) -> None:
    """Warm-up steps are one stage; their phases are not worth telling."""
