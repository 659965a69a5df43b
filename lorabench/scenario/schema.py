"""What a scenario file may say: pydantic models that refuse unknown keys, and the JSON schema made of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, create_model

from lorabench.case import (
    Adapter,
    AdapterState,
    Attention,
    Bias,
    Case,
    Checkpointing,
    Data,
    Dtype,
    Measure,
    Optimizer,
    Quantization,
    Task,
    TaskType,
    Weights,
)

# LoraConfig's names for what the file says under names of its own.
_RESERVED_OPTIONS = {
    "r": "rank",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "target_modules": "target_modules",
    "bias": "bias",
    "task_type": "task_type",
    "use_rslora": "rslora",
}


class _Strict(BaseModel):
    # strict: 1 is no boolean, "8" is no number; a whole number is still a float.
    # defer_build: the parts are compiled once, inside the whole.
    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)


def _no_reserved(options: dict[str, Any]) -> dict[str, Any]:
    for name in options:
        if name in _RESERVED_OPTIONS:
            raise ValueError(f"{name} has a key of its own: write adapter.{_RESERVED_OPTIONS[name]}")
    return options


def _each_once(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("names a module twice; keep one")
    return names


def _form(value: Any) -> str:
    return "word" if isinstance(value, str) else "other"


Name = Annotated[str, Field(min_length=1, max_length=300)]
ModuleNames = Annotated[
    list[Name], Field(min_length=1, json_schema_extra={"uniqueItems": True}), AfterValidator(_each_once)
]
TargetModules = Annotated[
    Annotated[Literal["all-linear"], Tag("word")] | Annotated[ModuleNames, Tag("other")], Discriminator(_form)
]


class AdapterSettings(_Strict):
    """The LoRA adapter. Keys that are left out keep their defaults."""

    rank: int = Field(default=Adapter.rank, ge=1, le=65_536, description="Rank of the update.")
    alpha: float = Field(
        default=Adapter.alpha,
        gt=0,
        le=1e6,
        description="Scale: the update is multiplied by alpha / rank, with rslora by alpha / sqrt(rank).",
    )
    dropout: float = Field(default=Adapter.dropout, ge=0, lt=1, description="Dropout on the adapter's input.")
    target_modules: TargetModules = Field(
        default=list(Adapter.target_modules),
        description="Names of the layers to adapt, or all-linear. Left out: the architecture's query and value layers.",
    )
    bias: Bias = Field(default=Adapter.bias, description="Which biases are trained.")
    task_type: TaskType = Field(
        default=Adapter.task_type,
        description="PEFT's task type; it decides the head. Left out: the architecture's own.",
    )
    rslora: bool = Field(default=Adapter.rslora, description="Rank-stabilised scaling.")
    autocast_adapter_dtype: bool = Field(
        default=Adapter.autocast_adapter_dtype,
        description="Keep adapter weights in fp32 over a 16-bit base, as PEFT does.",
    )
    options: Annotated[dict[str, Any], AfterValidator(_no_reserved)] = Field(
        default={},
        description="Further arguments of peft.LoraConfig, unchanged: use_dora, modules_to_save, rank_pattern, ...",
    )


class MeasureSettings(_Strict):
    """How often a case is measured. Keys that are left out keep their defaults."""

    warmup: int = Field(default=Measure.warmup, ge=0, le=100_000, description="Untimed steps before the timed ones.")
    steps: int = Field(default=Measure.steps, ge=1, le=100_000, description="Timed steps.")
    repeats: int = Field(default=Measure.repeats, ge=1, le=1_000, description="Processes that measure the case anew.")
    timeout_s: float = Field(
        default=Measure.timeout_s, gt=0, le=86_400, description="Seconds after which a process of the case is stopped."
    )


AdapterOrNone = Annotated[
    Annotated[Literal["none"], Tag("word")] | Annotated[AdapterSettings, Tag("other")], Discriminator(_form)
]


class CaseSettings(_Strict):
    """The settings that a case is made of."""

    task: Task = Field(default="train", description="What is done with the model.")
    model: Name = Field(
        default="llama-tiny",
        description="A preset of the catalog, an existing folder with a config.json, or a hub id (OWNER/NAME).",
    )
    weights: Weights = Field(
        default=Case.weights, description="random: made from the architecture alone; pretrained: they must be at hand."
    )
    quantization: Quantization = Field(default=Case.quantization, description="What the base weights are stored in.")
    compute_dtype: Dtype = Field(
        default=Case.compute_dtype, description="Dtype of what int8 and nf4 leave unquantized."
    )
    int8_threshold: float = Field(
        default=Case.int8_threshold,
        ge=0,
        le=1e6,
        description="Outlier threshold of LLM.int8(); 0 turns decomposition off.",
    )
    double_quantization: bool = Field(
        default=Case.double_quantization, description="nf4: quantize the quantization constants too."
    )
    kbit_preparation: bool = Field(
        default=Case.kbit_preparation,
        description="Call prepare_model_for_kbit_training before the adapter is attached.",
    )
    autocast: bool = Field(default=Case.autocast, description="Run the forward pass under torch.autocast(bf16).")
    adapter: AdapterOrNone = Field(
        default_factory=AdapterSettings, description="The LoRA adapter, or none: full fine-tuning, or the bare model."
    )
    adapter_state: AdapterState = Field(
        default=Case.adapter_state, description="infer: the bare model, the adapter beside it, or merged into it."
    )
    adapter_count: int = Field(
        default=Case.adapter_count, ge=1, le=10_000, description="lifecycle: how many adapters there are."
    )
    gradient_checkpointing: Checkpointing = Field(
        default=Case.gradient_checkpointing, description="Recompute activations in the backward pass."
    )
    use_cache: bool = Field(default=Case.use_cache, description="train: keep a key-value cache in the forward pass.")
    attention: Attention = Field(default=Case.attention, description="Attention implementation of transformers.")
    optimizer: Optimizer = Field(default=Case.optimizer, description="Optimizer of the trained parameters.")
    learning_rate: float = Field(default=Case.learning_rate, gt=0, le=1e3, description="Constant learning rate.")
    data: Data = Field(default=Case.data, description="Random token ids, or tokenized real text.")
    batch_size: int = Field(default=Case.batch_size, ge=1, le=65_536, description="Sequences in a step.")
    sequence_length: int = Field(
        default=Case.sequence_length, ge=1, le=1_048_576, description="Tokens in a sequence (infer: in the prompt)."
    )
    padding: float = Field(
        default=Case.padding, ge=0, lt=1, description="Share of padded positions; above 0 an attention mask is passed."
    )
    new_tokens: int = Field(
        default=Case.new_tokens, ge=1, le=1_048_576, description="infer: tokens decoded after the prompt."
    )
    seed: int = Field(default=Case.seed, ge=0, lt=2**32, description="Seed of weights, data and dropout.")


_Fields = dict[str, tuple[Any, str | None]]


def _fields(model: type[BaseModel], prefix: str = "") -> _Fields:
    """Key to annotation and description, for each field of ``model``."""
    fields: _Fields = {}
    for name, field in model.model_fields.items():
        marks = [*field.metadata, *([field.discriminator] if field.discriminator else [])]
        annotation = Annotated[(field.annotation, *marks)] if marks else field.annotation
        fields[f"{prefix}{name}"] = (annotation, field.description)
    return fields


def _optional(name: str, doc: str, fields: _Fields) -> type[_Strict]:
    """A model of keys that may all be left out, but not all at once."""
    definitions: dict[str, Any] = {
        key.replace(".", "_"): (annotation, Field(default=None, alias=key, description=description))
        for key, (annotation, description) in fields.items()
    }
    made = create_model(name, __base__=_Strict, __doc__=doc, **definitions)
    made.model_config["json_schema_extra"] = {"minProperties": 1}
    return made


# ``measure`` cannot vary: it tells no two cases apart.
_VARIABLE = _fields(CaseSettings) | _fields(AdapterSettings, "adapter.")
VARIABLE_KEYS = tuple(_VARIABLE)
"""The keys that ``matrix``, ``exclude`` and ``include`` take; dotted ones reach inside adapter."""

_AXES: _Fields = {
    key: (Annotated[list[annotation], Field(min_length=1, json_schema_extra={"uniqueItems": True})], description)  # type: ignore[valid-type]
    for key, (annotation, description) in _VARIABLE.items()
}
Point = _optional("Point", "Values of some keys; dotted keys reach inside adapter.", _VARIABLE)
Matrix = _optional("Matrix", "Keys to vary, each with the list of its values; every combination is a case.", _AXES)
_OVERRIDES = _VARIABLE | _fields(MeasureSettings, "measure.")
OVERRIDE_KEYS = tuple(_OVERRIDES)
"""The keys that ``--set`` takes."""
Overrides = _optional("Overrides", "What --set takes.", _OVERRIDES)


class Variation(CaseSettings):
    """Settings, and how they vary."""

    measure: MeasureSettings = Field(default_factory=MeasureSettings, description="How often a case is measured.")
    matrix: Matrix = Field(default_factory=Matrix, description="Keys to vary. Leave it out for a single case.")  # type: ignore[valid-type]
    exclude: list[Point] = Field(default=[], description="Drop the combinations that match every key of an entry.")  # type: ignore[valid-type]
    include: list[Point] = Field(default=[], description="Add single cases outside the matrix.")  # type: ignore[valid-type]
    interleave: list[str] = Field(default=[], description="Axes whose cases are timed in one process, in turn.")


class Devices(_Strict):
    """What differs on a device. Mappings are merged key by key, the matrix axis by axis; lists are replaced."""

    cpu: Variation = Field(default_factory=Variation, description="Overrides on a CPU.")
    cuda: Variation = Field(default_factory=Variation, description="Overrides on a GPU, and where a GPU is predicted.")


class ScenarioFile(Variation):
    """A scenario of lorabench: one question, fixed settings, and a matrix of settings to vary."""

    scenario: str = Field(pattern=r"^[a-z0-9-]{1,80}$", description="Unique name.")
    question: str = Field(min_length=1, max_length=1000, description="What the scenario is to answer.")
    task: Task = Field(description="What is done with the model.")
    model: Name = Field(description=CaseSettings.model_fields["model"].description)
    devices: Devices = Field(default_factory=Devices, description="Overrides of the keys above, per device.")


def json_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a scenario file."""
    schema = _tidy(ScenarioFile.model_json_schema(by_alias=True))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "lorabench scenario", **schema}


def _tidy(node: Any) -> Any:
    """Without the titles and null defaults that pydantic adds."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _tidy(value)
        for key, value in node.items()
        if not (key == "title" and isinstance(value, str)) and not (key == "default" and value is None)
    }
