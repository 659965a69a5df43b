"""Combinations of settings that are refused, each with its reason, before anything is built."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lorabench.case import Case
from lorabench.catalog import Model
from lorabench.errors import ScenarioError, UnfitModelError
from lorabench.scenario.plan import Origin, Settings
from lorabench.wording import did_you_mean

Problems = Iterator[tuple[str, str]]
"""The flat key to point at, and what is wrong and would be right."""


def refuse(case: Case, model: Model, settings: Settings, device: str, fallback: Origin) -> None:
    """Refuse a case that cannot be, or that would measure something else than it says.

    Raises:
        UnfitModelError: a rule on models is broken, and the model is an option's.
        ScenarioError: at the key that the first broken rule points at.
    """
    for rule in _RULES:
        for key, message in rule(case, model, settings):
            error = _located(case, settings, key, message, fallback)
            if rule in _ON_MODELS and settings["model"].origin.line is None:
                raise UnfitModelError(error.file, error.line, error.key, error.message)
            raise error
    if device == "cpu" and case.attention == "flash_attention_2":
        message = "flash_attention_2 needs a GPU; set it under devices: cuda"
        raise _located(case, settings, "attention", message, fallback)


def _located(case: Case, settings: Settings, key: str, message: str, fallback: Origin) -> ScenarioError:
    setting = settings.get(key) or settings.get(key.partition(".")[0])
    origin = fallback if setting is None else setting.origin
    if origin.line is None:
        # An option holds for every scenario; say which one refuses it.
        message += f" (in {case.name})"
    return origin.error(message)


def _task(case: Case, model: Model, settings: Settings) -> Problems:
    if case.task == "infer" and case.gradient_checkpointing != "none":
        yield "gradient_checkpointing", "inference has no backward pass to recompute for; set it to none"
    if case.adapter is None:
        if case.adapter_state != "base":
            yield "adapter_state", f"{case.adapter_state} needs an adapter; with adapter: none leave it out or say base"
        if case.task == "lifecycle":
            yield "adapter", "a lifecycle is that of an adapter; none leaves nothing to attach"
        return
    if case.task == "train" and case.adapter.task_type == "CAUSAL_LM" and case.sequence_length < 2:
        yield "sequence_length", "a causal language model learns to predict the next token; take at least 2"


def _quantization(case: Case, model: Model, settings: Settings) -> Problems:
    quantized = case.quantization in ("int8", "nf4")
    if case.kbit_preparation and not quantized:
        yield (
            "kbit_preparation",
            f"would turn the whole {case.quantization} model into fp32; it is for int8 and nf4 (exclude the others)",
        )
    if quantized and case.adapter is None and case.task == "train":
        yield "quantization", f"{case.quantization} weights have no gradient to train them by; give an adapter"


def _model(case: Case, model: Model, settings: Settings) -> Problems:
    if case.weights == "pretrained" and model.preset is not None and not model.preset.pretrained:
        yield "weights", f"the preset {case.model} has no pretrained weights; take smollm2-135m, a folder or a hub id"
    if model.family is None or model.config is None:
        return
    key = model.family.learned_positions
    limit = None if key is None else model.config.get(key)
    if isinstance(limit, int):
        length = case.sequence_length + (case.new_tokens if case.task == "infer" else 0)
        if length > limit:
            which = "sequence_length + new_tokens" if case.task == "infer" else "sequence_length"
            yield "sequence_length", f"{which} is {length:,}, but {case.model} has learned positions for {limit:,}"


def _adapter(case: Case, model: Model, settings: Settings) -> Problems:
    if case.adapter is None or model.family is None:
        return
    if case.adapter.task_type not in model.family.task_types:
        fitting = ", ".join(model.family.task_types)
        yield "adapter.task_type", f"{case.model} cannot be a {case.adapter.task_type} model; it can be {fitting}"
    # A local model may have layers of its own; a preset has those of its family.
    if model.preset is None or isinstance(case.adapter.target_modules, str):
        return
    known = (*model.family.linear_layers, *model.family.other_targets)
    for target in case.adapter.target_modules:
        # PEFT takes the end of a module's path as well: self_attn.q_proj.
        last = target.rpartition(".")[2]
        if last not in known:
            hint = did_you_mean(last, known)
            layers = ", ".join(model.family.linear_layers)
            yield (
                "adapter.target_modules",
                f"{case.model} has no layer {target!r}{hint}; its linear layers are {layers}",
            )


_ON_MODELS: tuple[Callable[[Case, Model, Settings], Problems], ...] = (_model, _adapter)
_RULES: tuple[Callable[[Case, Model, Settings], Problems], ...] = (_task, _quantization, *_ON_MODELS)
