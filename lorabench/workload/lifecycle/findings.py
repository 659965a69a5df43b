"""What an adapter's life changes and what it leaves alone: weights, outputs and files, compared bit for bit.

Nothing here is measured in bytes of memory or seconds, so that both sides of a comparison can be kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from lorabench.case import Case
from lorabench.measure.phases import OnPhase, UnobservedPhases
from lorabench.memory_errors import is_out_of_memory
from lorabench.model import adapter as adapters
from lorabench.model import adapter_files as files
from lorabench.model import adapter_states as states
from lorabench.model.expectation import target_modules
from lorabench.model.observation import StepObservation
from lorabench.model.proof import Expected, count, expect, observe_step
from lorabench.model.quantization import keep_unpacked
from lorabench.record import Proof
from lorabench.workload.lifecycle.models import Models
from lorabench.workload.outputs import Distance, distance
from lorabench.workload.training_facts import base_tensors, digests, trainable_by_kind


class Findings:
    """Call :meth:`prove` first, then :meth:`observe`; facts of the memory walk come into the latter."""

    def __init__(self, models: Models, on_phase: OnPhase) -> None:
        self._models = models
        self._case = models.case
        self._device = models.device.torch_device
        self._on_phase = on_phase
        self._phases = UnobservedPhases(on_phase)
        self._found: dict[str, Any] = {}

    def prove(self) -> tuple[Proof, Expected]:
        """Attach, compare with the base, train two steps; the proof is that of the second."""
        models = self._models
        base = models.base(self._phases)
        expected = expect(base, self._case)
        wanted = set(target_modules(base, self._case))
        self._expected_file = files.expected_shapes(base, self._case)
        self._full_bytes = files.safetensors_bytes(files.state_shapes(base))
        self._base_outputs = models.outputs(base)
        self._on_phase("attach")
        self._model = model = models.attach(base)
        self._found["modules"] = _modules(model, wanted if expected.adapter_modules is not None else None)
        self._found["trainable"] = trainable_by_kind(model)
        self._on_phase("step")
        before = digests(base_tensors(model))
        fresh = models.outputs(model)
        models.train_step(model)
        trained = models.outputs(model)
        self._found["identity"] = {
            "equal_before_step": torch.equal(fresh, self._base_outputs),
            "max_abs_before": self._distance(fresh, self._base_outputs).max_abs,
            "equal_after_step": torch.equal(trained, self._base_outputs),
            "max_abs_after": self._distance(trained, self._base_outputs).max_abs,
        }
        with observe_step(model, self._case) as seen:
            models.train_step(model)
        self._found["base_unchanged"] = digests(base_tensors(model)) == before
        return proof_of(model, self._case, self._device, seen), expected

    def observe(self) -> dict[str, Any]:
        """All of ``observations.lifecycle`` but what is read from the memory walk and from the timed one."""
        models, model, found = self._models, self._model, self._found
        adapters.randomize_adapter(model, self._case.seed)
        self._active_outputs = models.outputs(model)
        self._on_phase("disable")
        with states.disabled(model):
            inside = models.outputs(model)
        found["disable"] = {
            "equal_inside": torch.equal(inside, self._base_outputs),
            "max_abs_inside": self._distance(inside, self._base_outputs).max_abs,
            "equal_after": torch.equal(models.outputs(model), self._active_outputs),
        }
        self._on_phase("save")
        files.save(model, models.own_folder)
        found["save"] = self._save()
        self._on_phase("merge")
        found["modes"], found["merge"] = self._merge(model)
        self._model = None
        del model
        self._on_phase("restore")
        found["restore"] = self._restore()
        self._on_phase("unload")
        found["unload"], found["merged_save"] = self._unload()
        return found

    def _save(self) -> dict[str, Any]:
        folder = self._models.own_folder
        names = files.keys(folder)
        shapes = self._expected_file
        return {
            "keys": len(names),
            "other_keys": [name for name in names if ".lora_" not in name],
            "file_bytes": files.file_bytes(folder),
            "expected_bytes": None if shapes is None else files.safetensors_bytes(shapes),
            "full_file_bytes": self._full_bytes,
        }

    def _merge(self, model: PeftModel) -> tuple[dict[str, bool], dict[str, Any]]:
        models = self._models
        model.train()
        model.eval()
        merged_after_eval = states.is_merged(model)
        if merged_after_eval:
            states.unmerge(model)
        before = states.adapted_weights(model)
        states.merge_in_place(model)
        self._merged_outputs = models.outputs(model)
        model.train()
        merged_after_train = states.is_merged(model)
        model.eval()
        if merged_after_train:
            states.unmerge(model)
        after = states.adapted_weights(model)
        modes = {
            "merged_after_eval": merged_after_eval,
            "merged_after_train": merged_after_train,
            "merge_weights_argument": states.takes_merge_weights(),
        }
        weights = distance(((after[name], weight) for name, weight in before.items()), self._device)
        outputs = self._distance(self._merged_outputs, self._active_outputs)
        return modes, {
            "weights_equal": all(torch.equal(after[name], weight) for name, weight in before.items()),
            "weights_max_abs": weights.max_abs,
            "weights_relative": weights.relative,
            "outputs_max_abs": outputs.max_abs,
            "outputs_relative": outputs.relative,
        }

    def _restore(self) -> dict[str, Any]:
        """Into a fresh base; then that model, merged, is disabled."""
        models = self._models
        model = models.restored(self._phases)
        restored = models.outputs(model)
        states.merge_in_place(model)
        with states.disabled(model):
            inside = models.outputs(model)
        self._found["disable"] |= {
            "merged_equal_inside": torch.equal(inside, self._base_outputs),
            "merged_max_abs_inside": self._distance(inside, self._base_outputs).max_abs,
        }
        return {
            "equal": torch.equal(restored, self._active_outputs),
            "max_abs": self._distance(restored, self._active_outputs).max_abs,
        }

    def _unload(self) -> tuple[dict[str, Any], dict[str, Any]]:
        models = self._models
        bare = adapters.merge(models.restored(self._phases))
        outputs = models.outputs(bare)
        unload = {
            "outputs_equal_merged": torch.equal(outputs, self._merged_outputs),
            "outputs_max_abs_merged": self._distance(outputs, self._merged_outputs).max_abs,
        }
        self._on_phase("merged_save")
        return unload, self._merged_save(bare, outputs)

    def _merged_save(self, bare: Any, outputs: torch.Tensor) -> dict[str, Any]:
        """The merged model written with ``save_pretrained`` and read back by its own class, as any model is."""
        folder = self._models.folder / "merged"
        try:
            bare.save_pretrained(folder)
            file_bytes = files.file_bytes(folder)
            reloaded = _reload(type(bare), folder, self._case.attention, self._device)
        except (ValueError, NotImplementedError, RuntimeError, KeyError, AttributeError) as refusal:
            if is_out_of_memory(refusal):
                raise
            return {"refused": f"{type(refusal).__name__}: {' '.join(str(refusal).split())}"}
        again = self._models.outputs(reloaded)
        return {
            "file_bytes": file_bytes,
            "outputs_equal": torch.equal(again, outputs),
            "outputs_relative": self._distance(again, outputs).relative,
        }

    def _distance(self, ours: torch.Tensor, theirs: torch.Tensor) -> Distance:
        return distance([(ours, theirs)], self._device)


def proof_of(model: PeftModel, case: Case, torch_device: torch.device, seen: StepObservation | None = None) -> Proof:
    """The proof of a life's model, which is in eval mode but for its training steps."""
    model.train()
    proof = count(model, case, torch_device, seen)
    model.eval()
    return proof


def _modules(model: PeftModel, wanted: set[str] | None) -> dict[str, Any]:
    replaced = set(states.lora_layers(model))
    if wanted is None:
        return {"replaced": len(replaced), "expected": None, "unexpected": [], "missing": []}
    return {
        "replaced": len(replaced),
        "expected": len(wanted),
        "unexpected": sorted(replaced - wanted),
        "missing": sorted(wanted - replaced),
    }


def _reload(model_class: Any, folder: Path, attention: str, device: torch.device) -> Any:
    model = model_class.from_pretrained(
        folder, dtype="auto", attn_implementation=attention, device_map={"": device}, use_safetensors=True
    )
    keep_unpacked(model)
    return model.eval()
