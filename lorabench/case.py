"""A case: one point of a scenario's matrix, frozen and fully resolved.

Standard library only: the worker reads cases under foreign interpreters that have torch but not pydantic.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Literal

Task = Literal["train", "infer", "lifecycle"]
Quantization = Literal["fp32", "fp16", "bf16", "int8", "nf4"]
Dtype = Literal["fp32", "fp16", "bf16"]
Weights = Literal["random", "pretrained"]
AdapterState = Literal["base", "unmerged", "merged"]
Checkpointing = Literal["none", "reentrant", "non-reentrant"]
Attention = Literal["sdpa", "eager", "flash_attention_2"]
Optimizer = Literal["adamw", "sgd", "adamw-8bit"]
Data = Literal["random", "text"]
Bias = Literal["none", "all", "lora_only"]
TaskType = Literal["CAUSAL_LM", "SEQ_CLS", "SEQ_2_SEQ_LM", "TOKEN_CLS", "FEATURE_EXTRACTION"]

KEY_LENGTH = 16
# Read by pydantic, in the parent alone: a field that is not known is refused, not dropped.
_REFUSE_UNKNOWN: Mapping[str, Any] = {"extra": "forbid"}


@dataclass(frozen=True)
class Adapter:
    """The LoRA settings of a case; ``options`` go to ``peft.LoraConfig`` unchanged."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _REFUSE_UNKNOWN

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    target_modules: tuple[str, ...] | str = ("q_proj", "v_proj")
    bias: Bias = "none"
    task_type: TaskType = "CAUSAL_LM"
    rslora: bool = False
    autocast_adapter_dtype: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Measure:
    """Untimed and timed steps in a process, the number of processes, and seconds before a case is stopped."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _REFUSE_UNKNOWN

    warmup: int = 3
    steps: int = 20
    repeats: int = 1
    timeout_s: float = 600.0


@dataclass(frozen=True)
class Case:
    """Every setting of one measurement. ``axes`` are the varied keys with their values, in the order of the matrix."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _REFUSE_UNKNOWN

    scenario: str
    task: Task
    model: str
    weights: Weights = "random"
    quantization: Quantization = "bf16"
    compute_dtype: Dtype = "bf16"
    int8_threshold: float = 6.0
    double_quantization: bool = False
    kbit_preparation: bool = False
    autocast: bool = False
    adapter: Adapter | None = field(default_factory=Adapter)
    adapter_state: AdapterState = "unmerged"
    adapter_count: int = 1
    gradient_checkpointing: Checkpointing = "none"
    use_cache: bool = False
    attention: Attention = "sdpa"
    optimizer: Optimizer = "adamw"
    learning_rate: float = 1.0e-4
    data: Data = "random"
    batch_size: int = 1
    sequence_length: int = 512
    padding: float = 0.0
    new_tokens: int = 32
    seed: int = 0
    measure: Measure = field(default_factory=Measure)
    axes: tuple[tuple[str, Any], ...] = ()
    group: str | None = None
    architecture: str = ""

    @property
    def name(self) -> str:
        """``scenario[axis=value,...]``; the scenario's name alone where nothing is varied."""
        if not self.axes:
            return self.scenario
        return f"{self.scenario}[{','.join(f'{axis}={format_value(value)}' for axis, value in self.axes)}]"

    @property
    def key(self) -> str:
        """Hash of the settings that decide what is measured; see :func:`applicable_settings`."""
        text = json.dumps(_canonical(applicable_settings(self)), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]

    @property
    def splits_outliers(self) -> bool:
        """Whether int8 multiplies outlier columns apart: how many there are follows values, and so do bytes."""
        return self.quantization == "int8" and self.int8_threshold > 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; :func:`case_from_dict` takes it back."""
        return {**asdict(self), "axes": [[axis, value] for axis, value in self.axes]}


# What a task never reads. A setting that is dropped here cannot tell two cases apart.
_UNUSED_BY_TASK: dict[str, frozenset[str]] = {
    "train": frozenset({"adapter_state", "adapter_count", "new_tokens"}),
    "infer": frozenset(
        {"adapter_count", "gradient_checkpointing", "use_cache", "optimizer", "learning_rate", "data", "autocast"}
    ),
    "lifecycle": frozenset(
        {"adapter_state", "gradient_checkpointing", "use_cache", "optimizer", "learning_rate", "data", "new_tokens"}
    ),
}
# They name or schedule the case; none changes what one measurement reads. The seed and the repeat are
# the other parts of a record's identity.
_NOT_IN_KEY = frozenset({"scenario", "measure", "axes", "group", "seed"})


def applicable_settings(case: Case) -> dict[str, Any]:
    """The settings that matter to what ``case`` measures, as plain data; inapplicable ones are left out."""
    settings = {f.name: getattr(case, f.name) for f in fields(case) if f.name not in _NOT_IN_KEY}
    dropped = set(_UNUSED_BY_TASK[case.task])
    if case.architecture and case.weights == "random":
        # The digest says what the model is, whatever name leads to it. It does not say what values it was given.
        dropped.add("model")
    if case.quantization != "int8":
        dropped.add("int8_threshold")
    if case.quantization != "nf4":
        dropped.add("double_quantization")
    if case.quantization not in ("int8", "nf4"):
        dropped |= {"compute_dtype", "kbit_preparation"}
    if case.task == "infer" and case.adapter_state == "base":
        settings["adapter"] = None
    if case.adapter is None:
        # Without an adapter the only state that a model can be in is base.
        settings["adapter_state"] = "base"
    adapter = settings["adapter"]
    if adapter is not None:
        settings["adapter"] = asdict(adapter)
        if case.task == "infer":
            # Dropout is the identity in eval mode.
            del settings["adapter"]["dropout"]
        if not isinstance(adapter.target_modules, str):
            settings["adapter"]["target_modules"] = sorted(adapter.target_modules)
    return {name: value for name, value in settings.items() if name not in dropped}


def case_from_dict(data: Mapping[str, Any]) -> Case:
    """The inverse of :meth:`Case.to_dict`. Trusts its input: the parent has validated it."""
    values = dict(data)
    adapter = values.get("adapter")
    if adapter is not None:
        adapter = dict(adapter)
        if not isinstance(adapter["target_modules"], str):
            adapter["target_modules"] = tuple(adapter["target_modules"])
        values["adapter"] = Adapter(**adapter)
    values["measure"] = Measure(**values["measure"])
    values["axes"] = tuple((axis, frozen(value)) for axis, value in values["axes"])
    return Case(**values)


def frozen(value: Any) -> Any:
    """Plain data with tuples for lists, as an axis value stands in a case."""
    if isinstance(value, Mapping):
        return {name: frozen(item) for name, item in value.items()}
    return tuple(frozen(item) for item in value) if isinstance(value, (list, tuple)) else value


def _canonical(value: Any) -> Any:
    """16 and 16.0 are one setting and must give one key."""
    if isinstance(value, Mapping):
        return {name: _canonical(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def format_value(value: Any) -> str:
    """An axis value as it stands in a case's name: lists joined with ``+``, 16.0 as 16, others as in YAML."""
    if isinstance(value, (list, tuple)):
        return "+".join(format_value(item) for item in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "none"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, Mapping):
        return "{" + "+".join(f"{k}:{format_value(v)}" for k, v in value.items()) + "}"
    return str(value)
