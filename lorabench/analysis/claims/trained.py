"""What trains beside the adapter: biases, and the head of a task. All of it is counted to the last parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorabench.analysis.claims.claim import Claim, Figure, Finding, not_tested
from lorabench.analysis.claims.evidence import Evidence, keys, observed, setting
from lorabench.analysis.claims.shapes import Linear, Shapes, adapter_parameters, shapes_of, task_head_parameters
from lorabench.analysis.claims.words import combined, listed, mib, split
from lorabench.record import Record

_MODES = ("none", "lora_only", "all")
_TYPES = ("CAUSAL_LM", "SEQ_CLS", "SEQ_2_SEQ_LM", "TOKEN_CLS", "FEATURE_EXTRACTION")
_WENT_WRONG = ("failed", "invalid")


def _adapted(record: Record) -> tuple[Shapes, tuple[Linear, ...]] | None:
    """The model's shapes and its adapted layers; None where the configuration does not tell."""
    shapes = shapes_of(record)
    layers = None if shapes is None else shapes.targets(setting(record, "adapter.target_modules"))
    return None if shapes is None or layers is None else (shapes, layers)


def _kind(record: Record, kind: str) -> int | None:
    """Trainable parameters of one kind, as the worker counted them by name; None where it did not."""
    value = observed(record, f"training.trainable.{kind}")
    return value if isinstance(value, int) else None


def _trainable(record: Record) -> int:
    return record.proof.trainable_parameters if record.proof else 0


def _bias_modes(evidence: Evidence) -> Finding:
    where = {"task": "train", "adapter.options": {}, "adapter.task_type": ("CAUSAL_LM", "SEQ_2_SEQ_LM")}
    series = [
        records
        for records in evidence.series("adapter.bias", where)
        if all(record.proof is not None and _adapted(record) is not None for record in records)
    ]
    with_biases = [records for records in series if _biases(records[0], "all")]
    whole = [records for records in with_biases if {setting(one, "adapter.bias") for one in records} >= set(_MODES)]
    if not whole:
        return not_tested(
            "training cases with bias none, lora_only and all of one preset that has biases (OPT, GPT-2, Qwen2)",
            evidence=keys(record for records in series for record in records),
        )
    ordered = [sorted(records, key=lambda one: _MODES.index(setting(one, "adapter.bias"))) for records in whole]
    records = [record for one in ordered for record in one]
    wrong = {setting(record, "adapter.bias") for record in records if not _has_exact_biases(record)}
    modes = [f"bias {mode}" for mode in _MODES]
    failing = [name for mode, name in zip(_MODES, modes, strict=True) if mode in wrong]
    holding = [name for name in modes if name not in failing]
    furthest = max(records, key=lambda record: abs(_trained_biases(record) - _biases(record, _mode(record))))
    off = _trained_biases(furthest) - _biases(furthest, _mode(furthest))
    first = {_mode(record): record for record in ordered[0]}
    return Finding(
        combined(holding, failing),
        f"On {first['none'].case['model']}, beside the {_lora(first['none']):,} adapter parameters train "
        + ", ".join(f"{_trained_biases(first[mode]):,} biases under {mode}" for mode in _MODES)
        + f"; the configuration has {_biases(first['none'], 'lora_only'):,} in adapted layers and "
        f"{_biases(first['none'], 'all'):,} in all.",
        effect=float(off),
        n=len(records),
        condition=split(holding, failing),
        evidence=keys(records),
        rows=tuple(_bias_row(record) for record in records),
    )


def _mode(record: Record) -> str:
    return str(setting(record, "adapter.bias"))


def _lora(record: Record) -> int:
    found = _adapted(record)
    return 0 if found is None else adapter_parameters(found[1], setting(record, "adapter.rank"))


def _trained_biases(record: Record) -> int:
    return _trainable(record) - _lora(record)


def _biases(record: Record, mode: str) -> int:
    """Bias parameters that ``mode`` trains: of all modules, norms included, or of the adapted layers."""
    found = _adapted(record)
    if found is None or mode == "none":
        return 0
    shapes, layers = found
    return shapes.biases if mode == "all" else sum(layer.biases for layer in layers)


def _has_exact_biases(record: Record) -> bool:
    expected = _biases(record, _mode(record))
    return _trained_biases(record) == expected and _kind(record, "bias") in (None, expected)


def _bias_row(record: Record) -> Mapping[str, Any]:
    memory = record.memory
    dynamic = memory.dynamic_bytes if memory else None
    return {
        "model": record.case["model"],
        "bias": _mode(record),
        "adapter parameters": _lora(record),
        "trained biases": _trained_biases(record),
        "expected biases": _biases(record, _mode(record)),
        "dynamic MiB": None if dynamic is None else mib(dynamic),
    }


def _task_types(evidence: Evidence) -> Finding:
    where = {"task": "train", "adapter.options": {}, "adapter.bias": "none"}
    by_type: dict[str, dict[str, Record]] = {}
    for record in evidence.where(where):
        if record.proof is not None and _is_task_checkable(record):
            by_type.setdefault(setting(record, "adapter.task_type"), {})[record.case["model"]] = record
    broken = {
        setting(record, "adapter.task_type"): record
        for record in evidence.others
        if record.case.get("task") == "train" and record.status in _WENT_WRONG
    }
    failed = {name: record for name, record in broken.items() if name in _TYPES and name not in by_type}
    missing = [name for name in _TYPES if name not in by_type and name not in failed]
    records = [record for name in _TYPES for record in by_type.get(name, {}).values()]
    if missing:
        wanted = tuple(f"a training case with task type {name}" for name in missing)
        return not_tested(*wanted, evidence=keys(records))
    rows = [_task_row(record) for record in records]
    rows += [
        {**dict.fromkeys(rows[0] if rows else ("model", "task type", "as expected")), **_broken_row(record)}
        for record in failed.values()
    ]
    wrong = {row["task type"] for row in rows if not row["as expected"]}
    failing = [name for name in _TYPES if name in wrong]
    holding = [name for name in _TYPES if name not in wrong]
    heads = [row for row in rows if row.get("head parameters")]
    with_head = listed(f"{row['task type']} on {row['model']} ({row['head parameters']:,})" for row in heads)
    return Finding(
        combined(holding, failing),
        f"{len(holding)} of {len(_TYPES)} task types train a step with only the parameters that they should train; "
        f"a head trains beside the adapter under {with_head}."
        + (f" Not so under {listed(failing)}." if failing else ""),
        effect=float(len(holding)),
        n=len(rows),
        condition=split(holding, failing),
        evidence=keys([*records, *failed.values()]),
        rows=tuple(rows),
    )


def _is_task_checkable(record: Record) -> bool:
    return _adapted(record) is not None or _kind(record, "other") is not None


def _expected_head(record: Record) -> int | None:
    found = _adapted(record)
    if found is None:
        return None
    return task_head_parameters(found[0], str(record.case["model"]), setting(record, "adapter.task_type"))


def _task_row(record: Record) -> dict[str, Any]:
    """Judged on counts by kind where the worker has them, and on the total where the configuration tells it."""
    assert record.proof is not None
    found, head = _adapted(record), _expected_head(record)
    expected = None if found is None or head is None else _lora(record) + head
    gradients = record.proof.adapter_gradients
    other = (_kind(record, "other") or 0) + (_kind(record, "bias") or 0)
    is_as_expected = (
        (expected is None or record.proof.trainable_parameters == expected)
        and other == 0
        and (head is None or _kind(record, "head") in (None, head))
        and (gradients is None or gradients.arrived == gradients.expected)
    )
    return {
        "model": record.case["model"],
        "task type": setting(record, "adapter.task_type"),
        "trained parameters": record.proof.trainable_parameters,
        "expected parameters": expected,
        "head parameters": head if head is not None else _kind(record, "head"),
        "adapter gradients arrived": gradients.arrived if gradients else None,
        "as expected": is_as_expected,
    }


def _broken_row(record: Record) -> dict[str, Any]:
    return {
        "model": record.case["model"],
        "task type": setting(record, "adapter.task_type"),
        "as expected": False,
    }


BIAS_MODES = Claim(
    id="bias-modes",
    chapter="2",
    title="Biases train in three modes",
    hypothesis="bias none trains no bias, lora_only those of the adapted layers, and all every bias of the model.",
    method="Trained parameters of three cases that differ in the mode alone, less the adapter's r (in + out) for each "
    "layer, are compared with the biases that the model's configuration has. The model must have biases; Llama has "
    "none, and there the three modes are one.",
    refuted_by="One bias more or less than expected in any mode.",
    threshold=0.0,
    threshold_text="Exactly: a count has no tolerance.",
    unit="biases too many",
    test=_bias_modes,
    figure=Figure("bars", x="bias", y="trained biases", series="model", x_label="bias", y_label="trained biases"),
)

TASK_TYPES = Claim(
    id="task-types",
    chapter="2",
    title="The task type is chosen",
    hypothesis="Each of the five task types builds its model and trains the adapter, with the new head where a "
    "classifier needs one, and nothing else.",
    method="One training case a type at least. Trained parameters are compared with r (in + out) for each adapted "
    "layer and, for the classifiers, their head; every adapter tensor must get a gradient.",
    refuted_by="A type that cannot train a step, trains parameters that it should not, or leaves its adapter or its "
    "head untrained.",
    threshold=5.0,
    threshold_text="All five types, counted exactly.",
    unit="task types",
    test=_task_types,
    # Not the models as series: most have one task type, and a series has room at each.
    figure=Figure("bars", x="model", y="trained parameters", x_label="", y_label="trained parameters"),
)
