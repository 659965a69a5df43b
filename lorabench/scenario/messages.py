"""From what pydantic finds wrong to one line that says what would be right."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from lorabench.scenario.document import KeyPath
from lorabench.scenario.schema import (
    OVERRIDE_KEYS,
    VARIABLE_KEYS,
    AdapterSettings,
    MeasureSettings,
    Overrides,
    Variation,
)
from lorabench.wording import did_you_mean, one_line, shown

_KINDS = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list, such as [8, 16]",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
}
_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
_INNER: Mapping[str, type[BaseModel]] = {"adapter": AdapterSettings, "measure": MeasureSettings}


def problems(error: ValidationError, model: type[BaseModel], data: Any) -> list[tuple[KeyPath, str]]:
    """Where ``data`` breaks ``model``, and what to say about it, in pydantic's order."""
    found = []
    for problem in error.errors(include_url=False):
        path = _path(problem["loc"], data, missing=problem["type"] == "missing")
        found.append((path, _message(problem, path, model)))
    return found


def _path(location: Iterable[str | int], data: Any, *, missing: bool) -> KeyPath:
    """``location`` without the names that pydantic adds for the branches of a union."""
    path: list[str | int] = []
    for part in location:
        if isinstance(data, Mapping) and part in data:
            data = data[str(part)]
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            continue
        path.append(part)
    return (*path, list(location)[-1]) if missing else tuple(path)


def _message(problem: Any, path: KeyPath, model: type[BaseModel]) -> str:
    kind, value, context = problem["type"], problem["input"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(path, model)
    if kind == "missing":
        return f"is required: {model.model_fields[str(path[-1])].description}"
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", context["expected"])
        suggestion = did_you_mean(value, known) if isinstance(value, str) else ""
        return f"{shown(value)} is not one of {', '.join(known)}{suggestion}"
    if kind in _BOUNDS:
        words, name = _BOUNDS[kind]
        # As many digits as a whole limit has: six would round it.
        return f"must be {words} {context[name]:.15g}, not {shown(value)}"
    if kind in ("too_short", "string_too_short"):
        return "must not be empty"
    if kind == "string_too_long":
        return f"must be at most {context['max_length']} characters long"
    if kind == "string_pattern_mismatch":
        return f"{shown(value)} must be 1 to 80 lower-case letters, digits and hyphens"
    if kind == "value_error":
        return one_line(str(context["error"]))
    if kind in _KINDS:
        return f"must be {_expected(kind, path)}, not {shown(value)}{_hint(kind, value)}"
    return one_line(problem["msg"])


def _expected(kind: str, path: KeyPath) -> str:
    keys = [part for part in path if isinstance(part, str)]
    if kind == "model_type" and keys[-1:] == ["adapter"]:
        return f"{_KINDS[kind]}, or none"
    # In the matrix the key holds a list of lists: the inner one has an index after its key.
    if kind == "list_type" and keys[-1].endswith("target_modules") and ("matrix" not in keys or keys[-1] != path[-1]):
        return "a list of layer names, or all-linear"
    return _KINDS[kind]


def _hint(kind: str, value: Any) -> str:
    is_plain = isinstance(value, (bool, int, float))
    return "; put it into quotes" if kind == "string_type" and is_plain else ""


def _unknown_key(path: KeyPath, model: type[BaseModel]) -> str:
    key, above = str(path[-1]), path[:-1]
    prefix, _, last = key.rpartition(".")
    if above == ("devices",):
        return "unknown device; they are cpu and cuda, and fake takes cuda's settings"
    if above[:1] == ("devices",) and len(above) == 2 and key in ("scenario", "question", "devices"):
        return "is the same on every device; write it at the top of the file"
    known = _known_keys(path, model)
    if "adapter.rank" in known:
        if f"adapter.{key}" in known:
            return f"unknown key; write adapter.{key}"
        if key.partition(".")[0] == "measure" and "measure.steps" not in known:
            return "cannot vary: it tells no two cases apart"
    else:
        for name, inner in _INNER.items():
            if name in known and (prefix == name or key in inner.model_fields):
                return f"unknown key; write {name}: {{{one_line(last)}: ...}}"
    return f"unknown key{did_you_mean(key, known) or '; known are ' + ', '.join(known)}"


def _known_keys(path: KeyPath, model: type[BaseModel]) -> tuple[str, ...]:
    """The keys that may stand beside the last one of ``path``."""
    above = [part for part in path[:-1] if isinstance(part, str)]
    if above[:1] == ["devices"]:
        above, model = above[2:], Variation
    if above and above[-1] in _INNER:
        return tuple(_INNER[str(above[-1])].model_fields)
    if above:
        return VARIABLE_KEYS
    return OVERRIDE_KEYS if model is Overrides else tuple(model.model_fields)
