"""The models that a life needs, all of one case: built, trained, asked for their outputs, and their files."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from lorabench.case import Case
from lorabench.device.protocol import Device
from lorabench.errors import InvalidCaseError
from lorabench.measure.phases import Phases
from lorabench.model import adapter as adapters
from lorabench.model import adapter_files as files
from lorabench.model.architecture import task_type
from lorabench.model.build import build_base
from lorabench.model.quantization import keep_unpacked
from lorabench.model.weights import name_seed
from lorabench.workload.inputs import known_padding, training_inputs

TRAINING_STEPS = 2
"""The first moves B away from zero; from the second on A has gradients too."""
STEP_SIZE = 1e-3
NOT_REPACKED = (
    "bitsandbytes' repacking of 4-bit weights for this CPU was switched off: "
    "repacked weights can be neither trained nor merged"
)


class Models:
    """Builds models of ``case`` that are equal, bit for bit, and keeps the adapters that it writes in ``folder``."""

    def __init__(self, case: Case, device: Device, folder: Path, trust_remote_code: bool) -> None:
        self.case = case
        self.device = device
        self.folder = folder
        self._trust_remote_code = trust_remote_code
        self.warnings: list[str] = []
        self._inputs: dict[str, torch.Tensor] | None = None

    @property
    def adapter_names(self) -> list[str]:
        """Of the adapters that are loaded beside the attached one."""
        return [f"adapter-{index}" for index in range(self.case.adapter_count)]

    @property
    def own_folder(self) -> Path:
        """Where the attached adapter is saved."""
        return self.folder / files.DEFAULT

    def adapter_folder(self, name: str) -> Path:
        return self.folder / name

    def base(self, phases: Phases) -> Any:
        """The bare model in eval mode, prepared for training where the case asks for it."""
        with phases("load"):
            model = build_base(self.case, self.device.torch_device, trust_remote_code=self._trust_remote_code)
        if self.case.kbit_preparation:
            with phases("prepare"):
                model = adapters.prepare(model, self.case)
        if keep_unpacked(model):
            self.warnings = [NOT_REPACKED]
        # Nothing is decoded: a cache would only be bytes that have nothing to do with the adapter.
        model.config.use_cache = False
        return model.eval()

    def attach(self, base: Any) -> PeftModel:
        model = adapters.attach(base, self.case)
        assert isinstance(model, PeftModel), "a lifecycle without an adapter is refused before it is run"
        return model.eval()

    def restored(self, phases: Phases) -> PeftModel:
        """A model of its own, with the adapter of :attr:`own_folder` restored into it."""
        model = self.attach(self.base(phases))
        files.restore(model, self.own_folder, self.device.torch_device)
        return model

    def make_inputs(self, model: Any) -> None:
        self._inputs = training_inputs(self.case, model.config, self.device.torch_device)

    def train_step(self, model: Any) -> None:
        """Forward, backward, and every trained parameter moved by :data:`STEP_SIZE` against the sign of its gradient.

        That is what the first step of AdamW comes to (Kingma and Ba 2015, section 2.1), without its state: the second
        moment of a bias or a head in fp16 underflows to zero, and the step would not be finite.
        """
        assert self._inputs is not None, "make_inputs() comes first"
        model.train()
        with self._autocast(), known_padding(self.case, self.device):
            out = model(**self._inputs)
            loss = out.loss if "labels" in self._inputs else out.last_hidden_state.float().pow(2).mean()
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= STEP_SIZE * parameter.grad.sign()
                    parameter.grad = None
        model.eval()

    @torch.no_grad()
    def forward(self, model: Any) -> torch.Tensor:
        """One forward pass without labels: logits of every position, or the last hidden state without a head."""
        if self._inputs is None:
            self.make_inputs(model)
        assert self._inputs is not None
        inputs = {name: value for name, value in self._inputs.items() if name != "labels"}
        if task_type(self.case, model.config) == "SEQ_2_SEQ_LM":
            inputs["decoder_input_ids"] = inputs["input_ids"]
        with self._autocast(), known_padding(self.case, self.device):
            out = model(**inputs)
        values: torch.Tensor = out.logits if "logits" in out else out.last_hidden_state
        return values

    def outputs(self, model: Any) -> torch.Tensor:
        """What :meth:`forward` gives, on the host.

        Raises:
            InvalidCaseError: they are not finite, and so cannot be compared.
        """
        values = self.forward(model).cpu()
        if not values.isfinite().all():
            raise InvalidCaseError("the model's outputs are not finite and cannot be compared")
        return values

    def write_adapters(self, model: PeftModel) -> None:
        """Save ``adapter_count`` adapters that all differ, by way of ``model``, which is left with the last of them."""
        for name in self.adapter_names:
            adapters.renew_adapter(model, name_seed(self.case.seed, name))
            files.save(model, self.adapter_folder(name))

    def _autocast(self) -> AbstractContextManager[Any]:
        if not self.case.autocast:
            return nullcontext()
        return torch.autocast(self.device.torch_device.type, dtype=torch.bfloat16)
