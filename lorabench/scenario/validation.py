"""From data to validated data, or to one line about the first thing that is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from lorabench.errors import ScenarioError
from lorabench.scenario.document import Document, KeyPath, spell
from lorabench.scenario.messages import problems
from lorabench.scenario.schema import Overrides, ScenarioFile
from lorabench.wording import shown


def validate_file(document: Document) -> dict[str, Any]:
    """The keys that a scenario file gives, validated, under their own names; keys that it leaves out stay out.

    Raises:
        ScenarioError: a key is unknown or missing, or a value is refused.
    """
    try:
        checked = ScenarioFile.model_validate(document.data).model_dump(exclude_unset=True, by_alias=True)
    except ValidationError as error:
        found = problems(error, ScenarioFile, document.data)
        path, message = min(found, key=lambda problem: document.line(problem[0]))
        raise document.error(path, message) from None
    data: dict[str, Any] = _in_order(checked, document.data)
    _refuse_empty_and_repeated(document, data, ())
    for device, section in data.get("devices", {}).items():
        _refuse_empty_and_repeated(document, section, ("devices", device))
    return data


def validate_overrides(values: Mapping[str, Any], option: str) -> dict[str, Any]:
    """Values of ``--set`` (or ``--model``), validated; raises :class:`ScenarioError` that names the ``option``."""
    try:
        return Overrides.model_validate(dict(values)).model_dump(exclude_unset=True, by_alias=True)
    except ValidationError as error:
        path, message = problems(error, Overrides, values)[0]
        raise ScenarioError(option, None, spell(path), message) from None


def _in_order(checked: Any, written: Any) -> Any:
    """``checked`` with keys in the order of the file: pydantic gives them in that of its fields, axes included."""
    if isinstance(checked, dict):
        return {key: _in_order(checked[key], value) for key, value in written.items()}
    if isinstance(checked, list):
        return [_in_order(item, value) for item, value in zip(checked, written, strict=True)]
    return checked


def _refuse_empty_and_repeated(document: Document, section: Mapping[str, Any], above: KeyPath) -> None:
    for axis, values in section.get("matrix", {}).items():
        seen: dict[str, int] = {}
        for index, value in enumerate(values):
            text = json.dumps(value, sort_keys=True)
            if text in seen:
                path = (*above, "matrix", axis, index)
                raise document.error(path, f"{shown(value)} is given twice; keep one")
            seen[text] = index
    for name in ("exclude", "include"):
        for index, entry in enumerate(section.get(name, [])):
            if not entry:
                raise document.error((*above, name, index), "is empty; give at least one key, or leave the entry out")
    if section.get("matrix") == {}:
        raise document.error((*above, "matrix"), "is empty; give at least one axis, or leave it out for a single case")
