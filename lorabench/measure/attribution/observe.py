"""Follows one step of a workload, and tells what its storages turned out to be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lorabench.measure.attribution.blocks import Blocks
from lorabench.measure.attribution.categories import GRADIENTS, INPUTS, KV_CACHE, LOGITS_AND_LOSS, OPTIMIZER_STATE
from lorabench.measure.attribution.held import HeldBlock
from lorabench.measure.attribution.holders import (
    Held,
    held_by_libraries,
    held_by_model,
    held_by_optimizer,
    parameter_modules,
    tensors_in,
)
from lorabench.measure.attribution.lives import Ledger, Owner
from lorabench.measure.attribution.mode import AttributionMode
from lorabench.measure.attribution.owners import Owners
from lorabench.measure.phases import OnPhase, Phases

_OUTPUTS = {"past_key_values": KV_CACHE, "logits": LOGITS_AND_LOSS, "loss": LOGITS_AND_LOSS}


@dataclass(frozen=True)
class Followed:
    """A step that is over; ``captured`` is what the allocator held at the operator asked for."""

    ledger: Ledger
    captured: list[HeldBlock] | None


@dataclass(frozen=True)
class Subject:
    """What is followed: a step, the model and optimizer that it works on, and its inputs.

    Within ``shortened`` a step's first phase is as ever, and what follows it takes less time. ``repeats`` says that
    each step takes the bytes that the one before took, operator by operator: no value decides on them.
    """

    step: Callable[[Phases], None]
    model: nn.Module
    optimizer: torch.optim.Optimizer | None
    inputs: Sequence[torch.Tensor]
    shortened: Callable[[], AbstractContextManager[None]] = nullcontext
    repeats: bool = True

    def held(self) -> list[Held]:
        """What is there between two steps."""
        names = parameter_modules(self.model)
        return [
            *held_by_model(self.model),
            *held_by_optimizer(self.optimizer, names),
            *held_by_libraries(),
            *(Held(INPUTS, "", tensor) for tensor in self.inputs),
        ]


def follow(
    subject: Subject, blocks: Blocks, on_phase: OnPhase, capture_at: int | None = None, *, counted: bool = True
) -> Followed:
    """Run one step and follow it. What the step does, saves and frees is what it does unfollowed.

    Args:
        capture_at: see :class:`AttributionMode`, ``counted`` too.
    """
    ledger = Ledger()
    follower = _Follower(subject, ledger, on_phase)
    mode = AttributionMode(ledger, blocks, follower.owners, capture_at, counted=counted)
    follower.mode = mode
    mode.start(subject.held())
    with ExitStack() as stack:
        stack.enter_context(follower.owners.watching())
        # Non-reentrant checkpointing puts hooks of its own on top of these, which then are not called: nothing is
        # saved there. What a hook returns is what is saved, so returning it unchanged changes nothing.
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(follower.on_saved, _unchanged))
        stack.enter_context(mode)
        subject.step(follower)
    return Followed(ledger, mode.captured)


class _Follower:
    """:class:`Phases` that tell the ledger, and names what outputs, nodes and parameters hold."""

    mode: AttributionMode

    def __init__(self, subject: Subject, ledger: Ledger, on_phase: OnPhase) -> None:
        self.owners = Owners(subject.model, self.on_output, self.on_recompute)
        self._subject = subject
        self._ledger = ledger
        self._on_phase = on_phase
        self._names = parameter_modules(subject.model)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self._on_phase(name)
        self._ledger.enter(name)
        self.owners.begin_phase()
        first = len(self._ledger.lives)
        yield
        if name == "forward":
            self._ledger.keep_since(first)
        elif name == "backward":
            self.owners.end_tail()
        for parameter, module in self._names.items():
            if parameter.grad is not None:
                self._name(GRADIENTS, [parameter.grad], module)
        for category, module, tensor in held_by_optimizer(self._subject.optimizer, self._names):
            assert category == OPTIMIZER_STATE
            self._name(category, [tensor], module)

    def on_saved(self, tensor: torch.Tensor) -> torch.Tensor:
        life = self.mode.life_of(tensor)
        if life is not None:
            life.is_saved = True
        return tensor

    def on_output(self, output: Any) -> None:
        for attribute, category in _OUTPUTS.items():
            self._name(category, tensors_in(getattr(output, attribute, None)))

    def on_recompute(self) -> Callable[[], None]:
        first = len(self._ledger.lives)
        return lambda: self._ledger.keep_since(first)

    def _name(self, category: str, tensors: Iterable[torch.Tensor], module: str | None = None) -> None:
        for tensor in tensors:
            life = self.mode.life_of(tensor)
            if life is not None and life.category is None:
                life.category = category
                if module is not None:
                    life.owner = Owner(module)


def _unchanged(tensor: torch.Tensor) -> torch.Tensor:
    return tensor
