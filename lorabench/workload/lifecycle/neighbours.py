"""Adapters side by side on one base: how long each takes to load and to switch to, and what it answers."""

from __future__ import annotations

from typing import Any

import torch

from lorabench.measure.phases import OnPhase, UnobservedPhases
from lorabench.model import adapter_files as files
from lorabench.model import adapter_states as states
from lorabench.workload.lifecycle.models import Models
from lorabench.workload.lifecycle.timing import SampledPhases, rounds


class Neighbours:
    """A model with one adapter attached and ``adapter_count`` loaded beside it, whose files must have been written.

    Loading so many takes longer than all else: so the model that is timed is then compared.
    """

    def __init__(self, models: Models, on_phase: OnPhase) -> None:
        self._models = models
        self._on_phase = on_phase
        self._silent = UnobservedPhases(on_phase)

    def time(self) -> dict[str, list[float]]:
        """Seconds of ``load_adapter``, one sample an adapter, each beside those before it; and of ``switch``."""
        models = self._models
        timed = SampledPhases(models.device, self._on_phase)
        self._together = model = models.restored(self._silent)
        for name in models.adapter_names:
            with timed("load_adapter"):
                files.load(model, models.adapter_folder(name), name, models.case, models.device.torch_device)
        names = [*models.adapter_names, files.DEFAULT]
        for turn, phases in enumerate(rounds(models.case, self._silent, timed)):
            with phases("switch"):
                states.switch(model, names[turn % len(names)])
        return timed.samples_s()

    def compare(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """``equal_alone`` of the adapters and ``follows`` of the switch, after :meth:`time`.

        An adapter alone is a model with one adapter, into which its file is restored.
        """
        models, together = self._models, self._together
        alone = self._alone()
        states.switch(together, files.DEFAULT)
        equal = follows = True
        before = models.outputs(together)
        # The attached one last: it must be found again among all others.
        for name in (*models.adapter_names, files.DEFAULT):
            states.switch(together, name)
            now = models.outputs(together)
            same = torch.equal(now, alone[name])
            equal = equal and same
            follows = follows and same and not torch.equal(now, before)
            before = now
        return {"equal_alone": equal}, {"follows": follows}

    def _alone(self) -> dict[str, torch.Tensor]:
        models = self._models
        model = models.restored(self._silent)
        outputs = {files.DEFAULT: models.outputs(model)}
        for name in models.adapter_names:
            files.restore(model, models.adapter_folder(name), models.device.torch_device)
            outputs[name] = models.outputs(model)
        return outputs
