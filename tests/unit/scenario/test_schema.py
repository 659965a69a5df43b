"""The JSON schema: committed, in step with the code, and in agreement with it about what a scenario may say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from lorabench.case import Adapter, Case, Measure
from lorabench.scenario import json_schema
from lorabench.scenario.document import read_document
from lorabench.scenario.schema import VARIABLE_KEYS

ROOT = Path(__file__).parents[3]
SHIPPED = sorted((ROOT / "scenarios").glob("**/*.yaml"))
SCHEMA = json_schema()


def errors(value: Any, schema: dict[str, Any]) -> Iterator[str]:
    """A validator of the few JSON schema keywords that the schema uses; an unknown keyword is an error of its own."""
    known = {
        "$schema": lambda _: True,
        "$defs": lambda _: True,
        "title": lambda _: True,
        "description": lambda _: True,
        "default": lambda _: True,
        "$ref": lambda name: not list(errors(value, SCHEMA["$defs"][name.rpartition("/")[2]])),
        "type": lambda name: is_type(value, name),
        "enum": lambda choices: value in choices,
        "const": lambda only: value == only,
        "oneOf": lambda branches: sum(not list(errors(value, branch)) for branch in branches) == 1,
        "minimum": lambda bound: not is_type(value, "number") or value >= bound,
        "maximum": lambda bound: not is_type(value, "number") or value <= bound,
        "exclusiveMinimum": lambda bound: not is_type(value, "number") or value > bound,
        "exclusiveMaximum": lambda bound: not is_type(value, "number") or value < bound,
        "minLength": lambda bound: not isinstance(value, str) or len(value) >= bound,
        "maxLength": lambda bound: not isinstance(value, str) or len(value) <= bound,
        "pattern": lambda _: True,
        "minItems": lambda bound: not isinstance(value, list) or len(value) >= bound,
        "uniqueItems": lambda _: not isinstance(value, list) or len({json.dumps(v) for v in value}) == len(value),
        "minProperties": lambda bound: not isinstance(value, dict) or len(value) >= bound,
        "required": lambda keys: not isinstance(value, dict) or set(keys) <= set(value),
        "items": lambda item: not isinstance(value, list) or not [e for v in value for e in errors(v, item)],
        "properties": lambda each: (
            not isinstance(value, dict) or not [e for k, v in value.items() if k in each for e in errors(v, each[k])]
        ),
        "additionalProperties": lambda allowed: (
            allowed or not isinstance(value, dict) or set(value) <= set(schema["properties"])
        ),
    }
    for keyword, argument in schema.items():
        if keyword not in known:
            yield f"unknown keyword {keyword}"
        elif not known[keyword](argument):
            yield f"{keyword}: {argument} refuses {value}"
            return


def is_type(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    types = {"integer": int, "number": (int, float), "string": str, "array": list, "object": dict, "boolean": bool}
    return isinstance(value, types[name])  # type: ignore[arg-type]


def test_committed_schema_is_the_code_s() -> None:
    committed = (ROOT / "schema" / "scenario.schema.json").read_text()
    assert committed == json.dumps(SCHEMA, indent=2) + "\n", "run: lorabench schema > schema/scenario.schema.json"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_scenarios_conform(path: Path) -> None:
    assert list(errors(read_document(path).data, SCHEMA)) == []


@pytest.mark.parametrize(
    "change",
    [
        {"colour": 1},
        {"task": "trian"},
        {"batch_size": "2"},
        {"batch_size": 0},
        {"autocast": 1},
        {"adapter": 5},
        {"adapter": {"rnk": 2}},
        {"adapter": {"target_modules": "q_proj"}},
        {"matrix": {}},
        {"matrix": {"rank": [1]}},
        {"matrix": {"adapter.rank": []}},
        {"matrix": {"adapter.rank": [8, 8]}},
        {"matrix": {"adapter.rank": [0]}},
        {"exclude": [{}]},
        {"devices": {"fake": {}}},
        {"devices": {"cuda": {"batch": 2}}},
    ],
    ids=str,
)
def test_schema_refuses_what_the_loader_refuses(change: dict[str, Any]) -> None:
    whole: dict[str, Any] = {"scenario": "s", "question": "What?", "task": "train", "model": "llama-tiny"}
    assert list(errors(whole, SCHEMA)) == []
    assert list(errors(whole | change, SCHEMA)) != []


def described(node: Any, path: str = "") -> Iterator[str]:
    for name, schema in node.get("properties", {}).items():
        if "description" not in schema:
            yield f"{path}.{name}"
        yield from described(schema, f"{path}.{name}")


def test_every_key_is_described() -> None:
    assert list(described(SCHEMA)) == []
    assert [key for name, part in SCHEMA["$defs"].items() for key in described(part, name)] == []


def test_schema_and_cases_have_the_same_keys_and_defaults() -> None:
    inside = SCHEMA["$defs"]
    for dataclass, properties in (
        (Case, SCHEMA["properties"]),
        (Adapter, inside["AdapterSettings"]["properties"]),
        (Measure, inside["MeasureSettings"]["properties"]),
    ):
        for field in fields(dataclass):
            if field.name in ("axes", "group", "architecture"):
                assert field.name not in properties
            elif field.default is not MISSING:
                default = list(field.default) if isinstance(field.default, tuple) else field.default
                assert properties[field.name]["default"] == default, field.name
            else:
                assert field.name in properties, field.name


def test_every_setting_of_a_case_can_vary() -> None:
    not_settings = {"scenario", "measure", "axes", "group", "architecture"}
    expected = {field.name for field in fields(Case)} - not_settings
    expected |= {f"adapter.{field.name}" for field in fields(Adapter)}
    assert set(VARIABLE_KEYS) == expected
