"""Verdicts of claims that hold or fail case by case, and the words for where they hold."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

from lorabench.analysis.claims.claim import Judgement
from lorabench.analysis.claims.evidence import applying, setting
from lorabench.case import format_value
from lorabench.record import Record

Facts = Mapping[str, Any]
"""What tells one tested case from another: settings by name, and more where one record is tested several times."""

OTHER_CASES = "in the other cases"
"""What a condition says of those that held, where no setting of theirs tells them from the others."""

# How each setting reads in a condition, and the order in which they are tried as its explanation.
_PHRASES = {
    "state": "while {}",
    "phase": "in {}",
    "adapter.bias": "with bias {}",
    "adapter.task_type": "with task type {}",
    "adapter.options": "with options {}",
    "quantization": "under {}",
    "int8_threshold": "at outlier threshold {}",
    "adapter.target_modules": "with an adapter on {}",
    "adapter.rank": "at rank {}",
    "adapter.dropout": "with dropout {}",
    "adapter.rslora": "with rslora {}",
    "adapter.autocast_adapter_dtype": "with autocast_adapter_dtype {}",
    "adapter_count": "with {} adapters",
    "batch_size": "at batch size {}",
    "sequence_length": "at length {}",
    "kbit_preparation": "with kbit_preparation {}",
    "gradient_checkpointing": "with gradient checkpointing {}",
    "optimizer": "with {}",
    "weights": "with {} weights",
    "model": "on {}",
}
# What reads better in this order than in the alphabet's.
_ORDERED = {"quantization": ("fp32", "fp16", "bf16", "int8", "nf4"), "adapter.bias": ("none", "all", "lora_only")}
_NAMING = ("state", "phase", "quantization", "model")
_NAMED = 4


def facts(record: Record, **more: Any) -> Facts:
    """The settings of ``record`` that a condition can name, and ``more``."""
    settings = {name: setting(record, name) for name in _PHRASES if name not in ("state", "phase")}
    if settings["quantization"] != "int8":
        del settings["int8_threshold"]
    return {**settings, **more}


def in_order(records: Iterable[Record]) -> list[Record]:
    """By their settings, the quantization first: a run shuffles its cases, and findings shall read alike each time."""

    def order(record: Record) -> list[tuple[int, float, str]]:
        values = facts(record)
        names = ("quantization", *(name for name in values if name not in ("quantization", "int8_threshold")))
        return [_rank(name, values[name]) for name in (*names, "int8_threshold") if name in values]

    return sorted(records, key=order)


def decide(held: Sequence[Facts], failed: Sequence[Facts]) -> tuple[Judgement, str | None]:
    """The verdict over exact cases, and its condition where it has one; one case at least."""
    if not failed:
        return "supported", None
    if not held:
        return "refuted", None
    return "conditional", condition(held, failed)


def condition(held: Sequence[Facts], failed: Sequence[Facts]) -> str:
    """Where the ``held`` lie and the ``failed`` do not: ``under fp32; not under bf16 or fp16``.

    A failed case is explained by a setting whose value no held case has, or else by two or three settings together;
    what explains most comes first. What stays unexplained is named.
    """
    names = [name for name in _PHRASES if len({_value(one, name) for one in (*held, *failed)}) > 1]
    holding = [{name: _value(one, name) for name in names} for one in held]
    left = [(one, {name: _value(one, name) for name in names}) for one in failed]
    where: list[str] = []
    but: list[str] = []
    for size in (1, 2, 3):
        known = {reason: {_at(values, reason) for values in holding} for reason in combinations(names, size)}
        while left and known:
            explained = {
                reason: [one for one, values in left if _at(values, reason) not in seen]
                for reason, seen in known.items()
            }
            best = max(known, key=lambda reason: len(explained[reason]))
            if not explained[best]:
                break
            if size == 1:
                where.append(_phrase(best[0], held, "and"))
                but.append(_phrase(best[0], explained[best], "or"))
            else:
                but.extend(_some(_described(one, best) for one in explained[best]))
            left = [(one, values) for one, values in left if _at(values, best) in known[best]]
    but.extend(_some(_described(one, _NAMING) for one, _ in left))
    return f"{', '.join(filter(None, where)) or OTHER_CASES}; not {', nor '.join(but)}"


def labels(records: Sequence[Record], *left_out: str, every: bool = False) -> list[str]:
    """A short name for each case: its quantization, and those of its settings that most of ``records`` do not have.

    Two cases that differ in a setting that a condition can name, or with ``every`` in any that applies to them, have
    different names, unless it is ``left_out``.
    """
    seen = [{**applying(record), **facts(record)} if every else facts(record) for record in records]
    usual: dict[str, str] = {}
    for name in dict.fromkeys((*_PHRASES, *(name for one in seen for name in one))):
        if name in ("quantization", *left_out):
            continue
        values = Counter(_value(one, name) for one in seen if one.get(name) is not None)
        if len(values) > 1:
            usual[name] = values.most_common(1)[0][0]
    return [
        " ".join(
            [str(one["quantization"])]
            + [
                _short(name, one[name])
                for name, value in usual.items()
                if one.get(name) is not None and _value(one, name) != value
            ]
        )
        for one in seen
    ]


def listed(words: Iterable[str], joint: str = "and") -> str:
    """``a, b and c``."""
    several = list(dict.fromkeys(words))
    return f" {joint} ".join([", ".join(several[:-1]), several[-1]] if len(several) > 1 else several)


def _some(names: Iterable[str]) -> list[str]:
    several = list(dict.fromkeys(names))
    more = len(several) - _NAMED
    return several[:_NAMED] + ([f"in {more} more"] if more > 0 else [])


def _rank(name: str, value: Any) -> tuple[int, float, str]:
    if isinstance(value, int | float):
        return 0, float(value), ""
    known = _ORDERED.get(name, ())
    return (0, float(known.index(value)), "") if value in known else (1, 0.0, format_value(value))


def _value(one: Facts, name: str) -> str:
    return json.dumps(one.get(name), sort_keys=True, default=str)


def _at(values: Mapping[str, str], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(values[name] for name in names)


def _described(one: Facts, names: Iterable[str]) -> str:
    return " ".join(_phrase(name, [one], "or") for name in names if name in one)


def _phrase(name: str, several: Sequence[Facts], joint: str) -> str:
    """How a setting of ``several`` reads; empty where none has it."""
    values = [format_value(one[name]) for one in several if name in one]
    return _PHRASES[name].format(listed(values, joint)) if values else ""


def _short(name: str, value: Any) -> str:
    if name in ("model", "adapter.task_type", "optimizer"):
        return str(value)
    if name == "adapter.target_modules" and not isinstance(value, str):
        # A figure's axis has room for "on q+k+v+o", and not for four whole names.
        return f"on {'+'.join(str(module).removesuffix('_proj') for module in value)}"
    return f"{name.removeprefix('adapter.')}={format_value(value)}"
