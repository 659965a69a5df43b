"""What tells two cases apart, and what does not."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from lorabench.case import Adapter, Case, Measure, case_from_dict, format_value

TRAIN = Case("s", "train", "llama-tiny", architecture="0123")
INFER = replace(TRAIN, task="infer")
LIFECYCLE = replace(TRAIN, task="lifecycle")
INT8 = replace(TRAIN, quantization="int8")
NF4 = replace(TRAIN, quantization="nf4")


@pytest.mark.parametrize(
    ("case", "change"),
    [
        # They name, schedule or repeat a case.
        (TRAIN, {"scenario": "t"}),
        (TRAIN, {"measure": Measure(1, 2, 3, 4.0)}),
        (TRAIN, {"axes": (("seed", 1),)}),
        (TRAIN, {"group": "g"}),
        (TRAIN, {"seed": 1}),
        # Another name for the same architecture.
        (TRAIN, {"model": "./copy"}),
        # Settings that the task or the quantization never reads.
        (TRAIN, {"adapter_state": "merged"}),
        (TRAIN, {"new_tokens": 5}),
        (TRAIN, {"int8_threshold": 0.0}),
        (TRAIN, {"double_quantization": True}),
        (TRAIN, {"compute_dtype": "fp16"}),
        (INT8, {"double_quantization": True}),
        (NF4, {"int8_threshold": 0.0}),
        (INFER, {"optimizer": "sgd"}),
        (INFER, {"learning_rate": 1.0}),
        (INFER, {"data": "text"}),
        (INFER, {"adapter": Adapter(dropout=0.5)}),
        (LIFECYCLE, {"optimizer": "sgd"}),
        (replace(INFER, adapter_state="base"), {"adapter": Adapter(rank=64)}),
        (replace(INFER, adapter_state="base"), {"adapter": None}),
        # Spellings of the same.
        (TRAIN, {"adapter": Adapter(alpha=16)}),
        (TRAIN, {"learning_rate": 0.0001}),
        (TRAIN, {"adapter": Adapter(target_modules=("v_proj", "q_proj"))}),
    ],
    ids=str,
)
def test_same_key(case: Case, change: dict[str, Any]) -> None:
    assert replace(case, **change).key == case.key


@pytest.mark.parametrize(
    ("case", "change"),
    [
        (TRAIN, {"task": "infer"}),
        (TRAIN, {"architecture": "4567"}),
        (TRAIN, {"weights": "pretrained"}),
        (replace(TRAIN, weights="pretrained"), {"model": "./other"}),
        (replace(TRAIN, architecture=""), {"model": "owner/name"}),
        (TRAIN, {"quantization": "fp16"}),
        (INT8, {"int8_threshold": 0.0}),
        (INT8, {"compute_dtype": "fp16"}),
        (INT8, {"kbit_preparation": True}),
        (NF4, {"double_quantization": True}),
        (TRAIN, {"autocast": True}),
        (TRAIN, {"adapter": None}),
        (TRAIN, {"adapter": Adapter(rank=9)}),
        (TRAIN, {"adapter": Adapter(alpha=16.5)}),
        (TRAIN, {"adapter": Adapter(dropout=0.5)}),
        (TRAIN, {"adapter": Adapter(target_modules="all-linear")}),
        (TRAIN, {"adapter": Adapter(bias="all")}),
        (TRAIN, {"adapter": Adapter(rslora=True)}),
        (TRAIN, {"adapter": Adapter(autocast_adapter_dtype=False)}),
        (TRAIN, {"adapter": Adapter(options={"use_dora": True})}),
        (INFER, {"adapter_state": "merged"}),
        (INFER, {"new_tokens": 5}),
        (LIFECYCLE, {"adapter_count": 2}),
        (TRAIN, {"gradient_checkpointing": "reentrant"}),
        (TRAIN, {"use_cache": True}),
        (TRAIN, {"attention": "eager"}),
        (TRAIN, {"optimizer": "sgd"}),
        (TRAIN, {"learning_rate": 0.001}),
        (TRAIN, {"data": "text"}),
        (TRAIN, {"batch_size": 2}),
        (TRAIN, {"sequence_length": 2}),
        (TRAIN, {"padding": 0.5}),
    ],
    ids=str,
)
def test_another_key(case: Case, change: dict[str, Any]) -> None:
    assert replace(case, **change).key != case.key


def test_key_is_short_hexadecimal() -> None:
    assert len(TRAIN.key) == 16
    assert int(TRAIN.key, 16) >= 0


RICH = replace(
    TRAIN,
    adapter=Adapter(target_modules=("q_proj",), options={"rank_pattern": {"q_proj": 4}, "modules_to_save": ["norm"]}),
    axes=(
        ("adapter", {"target_modules": ("q_proj",)}),
        ("adapter.target_modules", ("q_proj", "v_proj")),
        ("batch_size", 1),
        ("adapter_state", "none"),
    ),
    group="s[batch_size=1]",
)


@pytest.mark.parametrize("case", [TRAIN, RICH, replace(TRAIN, adapter=None)], ids=["plain", "rich", "no adapter"])
def test_round_trip_through_json(case: Case) -> None:
    data = json.loads(json.dumps(case.to_dict()))
    assert case_from_dict(data) == case
    assert case_from_dict(data).key == case.key
    assert json.loads(json.dumps(case_from_dict(data).to_dict())) == data


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (8, "8"),
        (16.0, "16"),
        (0.05, "0.05"),
        (1e-4, "0.0001"),
        (True, "true"),
        (None, "none"),
        ("none", "none"),
        (("q_proj", "v_proj"), "q_proj+v_proj"),
        ({"rank": 8, "dropout": 0.1}, "{rank:8+dropout:0.1}"),
    ],
)
def test_values_in_names(value: Any, text: str) -> None:
    assert format_value(value) == text


def test_name() -> None:
    assert TRAIN.name == "s"
    assert replace(TRAIN, axes=(("adapter.rank", 8), ("batch_size", 2))).name == "s[adapter.rank=8,batch_size=2]"
