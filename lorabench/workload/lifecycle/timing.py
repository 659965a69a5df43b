"""How long each thing in an adapter's life takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from peft import PeftModel

from lorabench.case import Case
from lorabench.device.protocol import Device
from lorabench.measure.phases import OnPhase, Phases, UnobservedPhases
from lorabench.model import adapter as adapters
from lorabench.model import adapter_files as files
from lorabench.model import adapter_states as states
from lorabench.workload.lifecycle.models import Models


class SampledPhases:
    """Times each phase by itself: the device is waited for before it, and its end is marked in the stream.

    What a phase leaves to the device when it returns is part of its time, what was left before it is not.
    """

    def __init__(self, device: Device, on_phase: OnPhase) -> None:
        self._device = device
        self._on_phase = on_phase
        self._marks: dict[str, list[tuple[Any, Any]]] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self._on_phase(name)
        self._device.synchronize()
        before = self._device.mark()
        yield
        self._marks.setdefault(name, []).append((before, self._device.mark()))

    def samples_s(self) -> dict[str, list[float]]:
        """Seconds of each phase, in the order they were taken."""
        return {name: [self._device.elapsed_s(pair)[0] for pair in pairs] for name, pairs in self._marks.items()}


def rounds(case: Case, silent: Phases, timed: Phases) -> list[Phases]:
    """What each repetition runs under: ``measure.warmup`` untimed ones come first."""
    return [silent] * case.measure.warmup + [timed] * case.measure.steps


class TimedWalk:
    """Repeats what can be repeated: ``warmup`` times untimed, then ``steps`` times timed.

    Attaching and unloading alternate on one base: an adapter that is attached anew has a B of zeros, so that merging it
    changes no weight and costs what any merging does. So do merging and unmerging. The three forward passes take turns,
    because they are compared.
    """

    def __init__(self, models: Models, on_phase: OnPhase) -> None:
        self._models = models
        self._silent = UnobservedPhases(on_phase)
        self._timed = SampledPhases(models.device, on_phase)
        self._rounds = rounds(models.case, self._silent, self._timed)

    def run(self) -> dict[str, list[float]]:
        """Seconds of each phase."""
        models = self._models
        model = self._attach_and_unload(models.base(self._silent))
        files.restore(model, models.own_folder, models.device.torch_device)
        self._forwards(model)
        for phases in self._rounds:
            with phases("save"):
                files.save(model, models.folder / "timed")
            with phases("restore"):
                files.restore(model, models.own_folder, models.device.torch_device)
        for phases in self._rounds:
            with phases("merge"):
                states.merge_in_place(model)
            with phases("unmerge"):
                states.unmerge(model)
        return self._timed.samples_s()

    def _attach_and_unload(self, base: Any) -> PeftModel:
        for phases in self._rounds:
            with phases("attach"):
                model = self._models.attach(base)
            with phases("unload"):
                base = adapters.merge(model)
        return self._models.attach(base)

    def _forwards(self, model: PeftModel) -> None:
        models = self._models
        base = models.base(self._silent)
        for phases in self._rounds:
            with phases("forward"):
                models.forward(model)
            with states.disabled(model), phases("disabled_forward"):
                models.forward(model)
            with phases("base_forward"):
                models.forward(base)
