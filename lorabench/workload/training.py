"""The training workload: the reference step, the way that PEFT's users write it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from statistics import median
from typing import Any

import torch

from lorabench.case import Case
from lorabench.device.protocol import Device
from lorabench.measure.phases import Phases
from lorabench.model import adapter as adapters
from lorabench.model.build import build_base
from lorabench.model.proof import Expected, expect
from lorabench.workload.inputs import known_padding, training_inputs
from lorabench.workload.training_facts import CacheWatch, base_tensors, digests, trainable_by_kind, update_norm


class Training:
    """Forward, backward and optimizer, each step on the same inputs."""

    # AdamW makes its state in the first step; libraries' workspaces are there after the second.
    unsteady_steps = 2

    def __init__(self, case: Case, device: Device, trust_remote_code: bool = False) -> None:
        self.case = case
        self._device = device
        self._trust_remote_code = trust_remote_code
        self.model: Any = None
        self.expected: Expected | None = None
        self.optimizer: torch.optim.Optimizer | None = None
        self._steps_run = 0
        self._losses: list[torch.Tensor] | None = None
        self._losses_from_step = 0
        self._base_digests: dict[str, int] = {}

    def build(self, phases: Phases) -> None:
        case = self.case
        with phases("load"):
            model = build_base(case, self._device.torch_device, trust_remote_code=self._trust_remote_code)
        self.expected = expect(model, case)
        if case.kbit_preparation:
            with phases("prepare"):
                model = adapters.prepare(model, case)
        with phases("attach"):
            model = adapters.attach(model, case)
            adapters.enable_checkpointing(model, case)
        self.model = model.train()

    def start(self) -> None:
        case = self.case
        trainable = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = make_optimizer(case, trainable)
        self._inputs = training_inputs(case, self.model.config, self._device.torch_device)
        self._cache = CacheWatch(self.model)

    def step(self, phases: Phases) -> None:
        assert self.optimizer is not None, "start() makes the optimizer"
        with phases("forward"), self._autocast(), known_padding(self.case, self._device):
            out = self.model(**self._inputs)
            loss = out.loss if "labels" in self._inputs else out.last_hidden_state.float().pow(2).mean()
        with phases("backward"):
            loss.backward()
            if self._losses is not None:
                self._losses.append(loss.detach())
            del out, loss
        with phases("optimizer"):
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        self._steps_run += 1

    def begin_timing(self) -> None:
        # On the device, and only from here on: reading a loss waits, and keeping one takes memory.
        self._losses = []
        self._losses_from_step = self._steps_run
        # After the passes that count bytes: a digest takes a few MiB while it is computed.
        self._base_digests = {} if self.case.adapter is None else digests(base_tensors(self.model))

    def observations(self) -> dict[str, Any]:
        """``losses`` of every step since :meth:`begin_timing`, warm-up included, None for what is not finite.

        ``losses_from_step`` says how many steps the model had been trained before them. ``training`` is what
        :mod:`lorabench.workload.training_facts` saw; ``base_unchanged`` compares the base's bytes before and after the
        steps of ``losses``, and is None where the base itself is trained.
        """
        if not self._losses:
            return {}
        values = torch.stack(self._losses).float().tolist()
        # A diverged loss is a finding; JSON has no word for it but null.
        losses = [value if math.isfinite(value) else None for value in values]
        return {"losses": losses, "losses_from_step": self._losses_from_step, "training": self._facts()}

    def _facts(self) -> dict[str, Any]:
        model, case = self.model, self.case
        unchanged = None if case.adapter is None else digests(base_tensors(model)) == self._base_digests
        return {
            "base_unchanged": unchanged,
            "update_norm": update_norm(model),
            "trainable": trainable_by_kind(model),
            "cache": {
                "asked": case.use_cache,
                "returned": self._cache.returned,
                "config_after": bool(getattr(model.config, "use_cache", False)),
                "warnings": self._cache.warnings,
            },
        }

    def latency(self, samples_s: Mapping[str, list[float]]) -> dict[str, list[float]]:
        """Seconds of ``forward``, ``backward``, ``optimizer`` and the whole ``step``."""
        return dict(samples_s)

    def shortened(self) -> AbstractContextManager[None]:
        """A training step repeats nothing."""
        return nullcontext()

    def tokens_per_s(self, latency: Mapping[str, list[float]]) -> float | None:
        """batch_size x sequence_length / median step, padded positions included: they are computed too."""
        samples = latency.get("step")
        return self.case.batch_size * self.case.sequence_length / median(samples) if samples else None

    def _autocast(self) -> AbstractContextManager[Any]:
        if not self.case.autocast:
            return nullcontext()
        return torch.autocast(self._device.torch_device.type, dtype=torch.bfloat16)


def make_optimizer(case: Case, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """The case's optimizer with its library's defaults but for the learning rate."""
    if case.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=case.learning_rate)
    if case.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=case.learning_rate)
    from bitsandbytes.optim import AdamW8bit

    optimizer: torch.optim.Optimizer = AdamW8bit(parameters, lr=case.learning_rate)
    return optimizer
