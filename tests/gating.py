"""Predicts cases of code that was changed, for tests of the gate: what a library's regression looks like to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
from transformers import BitsAndBytesConfig

from lorabench.case import Case
from lorabench.device.fake import FakeDevice
from lorabench.environment import PREDICTED_CARD, Environment
from lorabench.measure.attribution.blocks import blocks_of
from lorabench.model import build
from lorabench.model.proof import count
from lorabench.record import Record, RecordDevice
from lorabench.workload import make_workload
from lorabench.workload.passes import MemoryPass, attribution_pass

Change = Callable[[Any], Any]
"""Changes a workload before it is built; may return a context in which it is built and run."""


def predicted(case: Case, environment: Environment, change: Change | None = None) -> Record:
    """The record of ``case`` as ``lorabench predict`` makes it, but for the proof, which is counted and no more.

    Held against the case it would end a record as ``invalid`` where a layer is not checkpointed or quantized, before a
    byte is compared.
    """
    device = FakeDevice()
    workload = make_workload(case, device)
    with device.session(), (change(workload) if change else None) or nullcontext():
        blocks = blocks_of(device)
        memory = MemoryPass(workload, device, _nothing)
        with device.counting():
            memory.build()
            memory.run()
        found = attribution_pass(workload, blocks, _nothing, memory.memory())
        proof = count(workload.model, case, device.torch_device, optimizer=workload.optimizer)
    return Record(
        environment=environment.id,
        key=case.key,
        name=case.name,
        scenario=case.scenario,
        group=case.group,
        case=case.to_dict(),
        status="ok",
        error=None,
        source="predicted",
        device=RecordDevice("fake", PREDICTED_CARD.name),
        seed=case.seed,
        repeat=0,
        started_at="2026-01-02T03:04:05+00:00",
        wall_s=1.0,
        proof=proof,
        memory=replace(memory.memory(), categories=found.categories, unattributed_bytes=found.unattributed_bytes),
        observations={"attribution": found.details},
    )


def byte_in_a_buffer(workload: Any) -> None:
    """The base model has one more buffer, of one byte."""

    def add() -> None:
        workload.model.register_buffer("one_more", torch.empty(1, dtype=torch.uint8))

    _after(workload, "build", add)


def byte_in_optimizer_state(workload: Any) -> None:
    """The optimizer keeps one more byte for one parameter."""

    def add() -> None:
        optimizer = workload.optimizer
        optimizer.state[optimizer.param_groups[0]["params"][0]].setdefault(
            "one_more", torch.empty(1, dtype=torch.uint8)
        )

    _after(workload, "step", add)


def byte_in_inputs(workload: Any) -> None:
    """One more byte goes in with the ids."""

    def add() -> None:
        workload.one_more = torch.empty(1, dtype=torch.uint8)

    _after(workload, "start", add)


def byte_in_activations(workload: Any) -> None:
    """The first layer saves one more byte for its backward pass."""

    def add() -> None:
        layers(workload.model)[0].register_forward_hook(lambda module, inputs, output: KeepsAByte.apply(output))

    _after(workload, "build", add)


class KeepsAByte(torch.autograd.Function):
    """Identity, with one byte saved."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(hidden.new_empty(1, dtype=torch.uint8))
        return hidden.view_as(hidden)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad


BYTES: dict[str, Change] = {
    "base_weights": byte_in_a_buffer,
    "optimizer_state": byte_in_optimizer_state,
    "inputs": byte_in_inputs,
    "activations": byte_in_activations,
}
"""One byte more in a category."""


def without_checkpointing(layer: int) -> Change:
    """Layer number ``layer`` keeps its activations."""

    def change(workload: Any) -> None:
        def switch_off() -> None:
            layers(workload.model)[layer].gradient_checkpointing = False

        _after(workload, "build", switch_off)

    return change


def without_quantization(module: str) -> Change:
    """The module of this name stays as it is."""

    @contextmanager
    def skipping() -> Iterator[None]:
        whole = build.quantization_config

        def config(case: Case) -> BitsAndBytesConfig | None:
            made = whole(case)
            assert made is not None
            made.llm_int8_skip_modules = [*(made.llm_int8_skip_modules or ["lm_head"]), module]
            return made

        with patch.object(build, "quantization_config", config):
            yield

    return lambda workload: skipping()


def layers(model: Any) -> Any:
    """The decoder layers of a Llama under PEFT's wrappers."""
    return model.get_base_model().model.layers


def _after(workload: Any, name: str, then: Callable[[], None]) -> None:
    method = getattr(workload, name)

    def extended(*arguments: Any) -> None:
        method(*arguments)
        then()

    setattr(workload, name, extended)


def _nothing(phase: str) -> None:
    """Nobody is told of phases."""
