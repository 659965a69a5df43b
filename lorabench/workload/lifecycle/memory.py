"""The bytes of an adapter's life, read while nothing is compared: what is kept for a comparison would count too."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from peft import PeftModel

from lorabench.device.allocator import block_bytes
from lorabench.device.protocol import Device
from lorabench.measure.phases import OnPhase, Phases
from lorabench.model import adapter as adapters
from lorabench.model import adapter_files as files
from lorabench.model import adapter_states as states
from lorabench.model.observation import adapter_parameters
from lorabench.model.proof import Expected, expect
from lorabench.workload.lifecycle.models import TRAINING_STEPS, Models
from lorabench.workload.passes import MemoryReading
from lorabench.workload.protocol import Buildable


class LifeMemory(MemoryReading):
    """Builds a life's model and reads the bytes of all that follows."""

    def __init__(self, life: Life, device: Device, on_phase: OnPhase) -> None:
        super().__init__(life, device, on_phase)
        self._life = life

    def run(self) -> None:
        self._life.live(self._phases)


class Life(Buildable, Protocol):
    """What can be built, and then be lived."""

    def live(self, phases: Phases) -> None: ...


class MemoryWalk:
    """One life, each thing done once, under ``phases`` that read bytes. Facts are kept for the observations."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._device = models.device
        self._base_bytes = 0
        self._input_bytes = 0
        self._expected_adapter_bytes = 0
        self._adapter_bytes: list[int] = []
        self.expected: Expected | None = None
        """Known on a device that computes nothing, where no other walk follows that would tell it."""
        self.deleted: dict[str, int] | None = None
        self.unloaded: dict[str, int] = {}
        self.refused: str | None = None
        """Why PEFT takes no further adapter; None where it does."""

    def build(self, phases: Phases) -> PeftModel:
        base = self._models.base(phases)
        self._base_bytes = settled_bytes(self._device)
        if not self._device.computes:
            self.expected = expect(base, self._models.case)
        with phases("attach"):
            model = self._models.attach(base)
        trained = [*adapter_parameters(model).values(), *_copied_heads(model)]
        self._expected_adapter_bytes = sum(_held_bytes(tensor, self._device) for tensor in trained)
        return model

    def make_inputs(self, model: PeftModel) -> None:
        before_bytes = self._device.allocated_bytes()
        self._models.make_inputs(model)
        self._input_bytes = self._device.allocated_bytes() - before_bytes

    def live(self, model: PeftModel, phases: Phases) -> None:
        """From the first training step to the bare model with the adapter merged into it."""
        models = self._models
        for _ in range(TRAINING_STEPS):
            with phases("step"):
                models.train_step(model)
        adapters.randomize_adapter(model, models.case.seed)
        with phases("forward"):
            models.forward(model)
        with states.disabled(model), phases("disabled_forward"):
            models.forward(model)
        with phases("save"):
            files.save(model, models.own_folder)
        with phases("merge"):
            states.merge_in_place(model)
        with phases("unmerge"):
            states.unmerge(model)
        models.write_adapters(model)
        with phases("restore"):
            files.restore(model, models.own_folder, self._device.torch_device)
        self._side_by_side(model, phases)
        with phases("unload"):
            bare = adapters.merge(model)
        left = len(states.lora_layers(bare))
        over_bytes = settled_bytes(self._device) - self._base_bytes - self._input_bytes
        self.unloaded = {"lora_modules_left": left, "bytes_over_base": over_bytes}
        with phases("base_forward"):
            models.forward(bare)

    def adapters(self) -> dict[str, Any]:
        """What further adapters took, after :meth:`live`; or why PEFT takes none."""
        if self.refused is not None:
            return {"refused": self.refused}
        return {
            "count": self._models.case.adapter_count,
            "bytes_each": self._adapter_bytes,
            "expected_bytes": self._expected_adapter_bytes,
        }

    def _side_by_side(self, model: PeftModel, phases: Phases) -> None:
        models, device = self._models, self._device
        for name in models.adapter_names:
            before_bytes = device.allocated_bytes()
            try:
                with phases("load_adapter"):
                    files.load(model, models.adapter_folder(name), name, models.case, device.torch_device)
            except ValueError as refusal:
                self.refused = " ".join(str(refusal).split())
                return
            self._adapter_bytes.append(device.allocated_bytes() - before_bytes)
        for name in (*models.adapter_names, files.DEFAULT):
            with phases("switch"):
                states.switch(model, name)
        before_bytes = settled_bytes(device)
        with phases("delete"):
            states.delete(model, models.adapter_names[-1])
        self.deleted = {
            "adapters_left": len(model.peft_config),
            "bytes_back": before_bytes - settled_bytes(device),
        }


def settled_bytes(device: Device) -> int:
    """Bytes allocated once garbage is collected, and without the workspaces that cuBLAS keeps from call to call."""
    device.drop_workspaces()
    device.settle()
    return device.allocated_bytes()


def _copied_heads(model: PeftModel) -> list[torch.Tensor]:
    """The parameters of heads that PEFT trains in a copy, of which every adapter has its own."""
    return [weight for name, weight in model.named_parameters() if ".modules_to_save." in name]


def _held_bytes(tensor: Any, device: Device) -> int:
    nbytes = tensor.numel() * tensor.itemsize
    return nbytes if device.type == "cpu" else block_bytes(nbytes)
