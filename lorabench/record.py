"""A record: what became of one case. Standard library only, like :mod:`lorabench.case`.

Bytes are integers named ``*_bytes``, times are floats named ``*_s``; nothing is rounded, nothing is NaN.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

SCHEMA = 1
"""Version of the record's shape. A reader refuses a file whose number is higher than its own."""

Status = Literal["ok", "oom", "failed", "timeout", "invalid"]
FINISHED: frozenset[str] = frozenset({"ok", "oom", "invalid"})
"""Statuses that a resumed run does not repeat."""

USED_BEFORE, CAME_LATER = "something else used the GPU", "another process came to the GPU"
"""How the warnings begin of a record whose case was not alone on its GPU."""


@dataclass(frozen=True)
class PhaseMemory:
    """Allocated bytes of one phase: on entering it, at its highest, on leaving it."""

    before_bytes: int
    peak_bytes: int
    after_bytes: int


@dataclass(frozen=True)
class Memory:
    """What a case holds. ``None`` where the device cannot tell; see DESIGN's words for static and dynamic.

    ``categories`` are the bytes at the peak by what they are (:mod:`lorabench.measure.attribution.categories`), and
    ``unattributed_bytes`` what is missing from them to ``peak_allocated_bytes``; empty of a lifecycle, which has no
    steady step. ``observations.attribution`` has layers, tensors and the timeline.
    """

    static_bytes: int | None = None
    dynamic_bytes: int | None = None
    peak_allocated_bytes: int | None = None
    peak_reserved_bytes: int | None = None
    device_used_bytes: int | None = None
    phases: Mapping[str, PhaseMemory] = field(default_factory=dict)
    categories: Mapping[str, int] = field(default_factory=dict)
    unattributed_bytes: int | None = None


@dataclass(frozen=True)
class Timing:
    """Samples of one phase in the order taken, their median, its 95% interval, and whether they can be trusted."""

    samples_s: tuple[float, ...]
    median_s: float
    ci95_s: tuple[float, float]
    unstable: bool
    reason: str | None = None


@dataclass(frozen=True)
class Gradients:
    """Adapter gradients read per tensor after a backward pass from the second step on."""

    expected: int
    arrived: int
    nonzero: int


@dataclass(frozen=True)
class Proof:
    """What was really built and run, counted from the model and the running step; ``None`` where it does not apply."""

    quantized_modules: int = 0
    quantization_backend: str | None = None
    trainable_parameters: int = 0
    total_parameters: int = 0
    adapter_modules: int = 0
    checkpointed_layers: int = 0
    layers: int = 0
    layer_forward_calls_per_step: float | None = None
    adapter_gradients: Gradients | None = None
    parameter_dtypes: Mapping[str, int] = field(default_factory=dict)
    optimizer_state_dtypes: Mapping[str, int] = field(default_factory=dict)
    attention_kernels: tuple[str, ...] = ()
    outlier_share: Mapping[str, float] = field(default_factory=dict)
    seeds: Mapping[str, int] = field(default_factory=dict)
    training: bool | None = None
    adapter_dropout: float | None = None


@dataclass(frozen=True)
class RecordError:
    """Why a record is not ``ok``: the exception's type or the signal, its message, and the phase it happened in."""

    type: str
    message: str
    phase: str | None = None


@dataclass(frozen=True)
class RecordDevice:
    """Where a case ran."""

    type: Literal["cuda", "cpu", "fake"]
    name: str


@dataclass(frozen=True)
class AlsoIn:
    """A further scenario that asks for the case of a record, which runs once: its name there, and what is varied.

    ``settings`` are those that are others there, whole; none of them matters to what is measured.
    """

    scenario: str
    name: str
    axes: tuple[tuple[str, Any], ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """One line of a results file. Its identity is (key, device name, seed, repeat), and its group where it has one.

    ``name``, ``scenario`` and ``case`` are those of the scenario that came up first; ``also`` has the others.
    """

    environment: str
    key: str
    name: str
    scenario: str
    group: str | None
    case: Mapping[str, Any]
    status: Status
    error: RecordError | None
    source: Literal["measured", "predicted"]
    device: RecordDevice
    seed: int
    repeat: int
    started_at: str
    wall_s: float
    proof: Proof | None = None
    memory: Memory | None = None
    latency: Mapping[str, Timing] = field(default_factory=dict)
    tokens_per_s: float | None = None
    observations: Mapping[str, Any] = field(default_factory=dict)
    world_size: int = 1
    ranks: tuple[int, ...] = (0,)
    also: tuple[AlsoIn, ...] = ()
    schema: int = SCHEMA
    type: Literal["record"] = "record"

    @property
    def identity(self) -> tuple[str, str, int, int, str | None]:
        return (self.key, self.device.name, self.seed, self.repeat, self.group)

    @property
    def names(self) -> tuple[str, ...]:
        """All names of the case, its own first."""
        return (self.name, *(other.name for other in self.also))

    @property
    def shared_gpu(self) -> bool:
        """Whether another process was seen on the GPU while the case had it."""
        warnings = self.observations.get("warnings")
        # Anything may be observed; a warning is text.
        told = warnings if isinstance(warnings, (list, tuple)) else ()
        return any(str(text).startswith((USED_BEFORE, CAME_LATER)) for text in told)

    def in_each_scenario(self) -> tuple[Record, ...]:
        """The record as each scenario has it that asks for its case, once in each, its own first."""
        if not self.also:
            return (self,)
        cases = {self.scenario: (self.name, self.case)}
        for other in self.also:
            case = {**self.case, **other.settings, "scenario": other.scenario, "axes": other.axes}
            cases.setdefault(other.scenario, (other.name, case))
        views = (
            replace(self, name=name, scenario=scenario, case=case, also=()) for scenario, (name, case) in cases.items()
        )
        return tuple(view.known_as(cases.values()) for view in views)

    def known_as(self, named: Iterable[tuple[str, Mapping[str, Any]]]) -> Record:
        """The record with what ``named`` adds to ``also``: names of its case with the case's plain data.

        A scenario that the record has a name of keeps that one.
        """
        known = {self.scenario, *(other.scenario for other in self.also)}
        more: dict[str, AlsoIn] = {}
        for name, case in named:
            if case["scenario"] not in known:
                more.setdefault(case["scenario"], _also_in(name, case, self.case))
        return replace(self, also=(*self.also, *more.values())) if more else self

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, as a line of a results file has it."""
        return as_line(asdict(self))


def as_line(data: dict[str, Any]) -> dict[str, Any]:
    """``data``, a record's fields as plain data, as DESIGN's schema has it: ``tokens_per_s`` inside ``latency``.

    Most cases are of one scenario: their lines have no ``also``.
    """
    tokens_per_s = data.pop("tokens_per_s")
    if tokens_per_s is not None:
        data["latency"] = {**data["latency"], "tokens_per_s": tokens_per_s}
    if not data["also"]:
        del data["also"]
    return data


# They name or schedule a case, or are the record's own.
_NOT_SETTINGS = frozenset({"scenario", "axes", "measure", "group", "seed"})


def _also_in(name: str, case: Mapping[str, Any], ran: Mapping[str, Any]) -> AlsoIn:
    """How the record of the case ``ran`` keeps what another scenario has as ``case``."""
    settings = {
        key: value for key, value in case.items() if key not in _NOT_SETTINGS and _text(value) != _text(ran.get(key))
    }
    return AlsoIn(case["scenario"], name, tuple((axis, value) for axis, value in case["axes"]), settings)


def _text(value: Any) -> str:
    # A list that was a tuple is the same setting.
    return json.dumps(value, sort_keys=True)
