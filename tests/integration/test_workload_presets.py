"""Every preset trains and infers, in every quantization and checkpointing mode, with every task that it can have.

Each is cut down to two narrow layers; presets that are then the same model are tested once.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from in_process import measure, write_config

from lorabench.case import Adapter, Case, Measure
from lorabench.catalog import PRESETS, Preset
from lorabench.errors import InputError

WIDTHS = {
    "vocab_size": 128,
    "hidden_size": 32,
    "word_embed_proj_dim": 32,
    "n_embd": 32,
    "d_model": 32,
    "intermediate_size": 64,
    "ffn_dim": 64,
    "d_ff": 64,
    "head_dim": 8,
    "d_kv": 8,
    "num_attention_heads": 4,
    "n_head": 4,
    "num_heads": 4,
    "num_hidden_layers": 2,
    "n_layer": 2,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "max_position_embeddings": 64,
    "n_positions": 64,
}
QUANTIZATIONS = ("fp32", "int8", "nf4")
CHECKPOINTING = ("none", "reentrant", "non-reentrant")
STATES = ("base", "unmerged", "merged")


def shrunken(preset: Preset) -> dict[str, Any]:
    config = {key: WIDTHS.get(key, value) for key, value in preset.config.items()}
    if "num_key_value_heads" in config:
        grouped = config["num_key_value_heads"] < preset.config["num_attention_heads"]
        config["num_key_value_heads"] = 2 if grouped else 4
    return config


ALIKE: dict[str, list[str]] = {}
for name, preset in PRESETS.items():
    ALIKE.setdefault(json.dumps([preset.model_type, shrunken(preset)], sort_keys=True), []).append(name)
DISTINCT = [names[0] for names in ALIKE.values()]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("presets")
    return {name: write_config(root / name, PRESETS[name].model_type, shrunken(PRESETS[name])) for name in DISTINCT}


def small_case(folder: str, preset: Preset, **settings: Any) -> Case:
    """A case as short as can be, with PEFT's default targets."""
    adapter = Adapter(target_modules=preset.family.query_value, task_type=settings.pop("task_type"))
    return Case(
        scenario="s",
        model=folder,
        adapter=adapter,
        compute_dtype="fp32",
        int8_threshold=0.0,
        batch_size=2,
        sequence_length=8,
        new_tokens=2,
        measure=Measure(warmup=0, steps=1),
        **settings,
    )


def assert_ok(case: Case) -> None:
    [result] = measure(case)
    assert result["status"] == "ok", result["error"]
    assert all(seconds > 0 for samples in result["latency"].values() for seconds in samples)


@pytest.mark.parametrize("checkpointing", CHECKPOINTING)
@pytest.mark.parametrize("quantization", QUANTIZATIONS)
@pytest.mark.parametrize("name", DISTINCT)
def test_training(folders: dict[str, str], name: str, quantization: Any, checkpointing: Any) -> None:
    preset = PRESETS[name]
    assert_ok(
        small_case(
            folders[name],
            preset,
            task="train",
            task_type=preset.family.task_types[0],
            quantization=quantization,
            gradient_checkpointing=checkpointing,
        )
    )


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("quantization", QUANTIZATIONS)
@pytest.mark.parametrize("name", DISTINCT)
def test_inference(folders: dict[str, str], name: str, quantization: Any, state: Any) -> None:
    preset = PRESETS[name]
    assert_ok(
        small_case(
            folders[name],
            preset,
            task="infer",
            task_type=preset.family.task_types[0],
            quantization=quantization,
            adapter_state=state,
        )
    )


FIRST_OF_TYPE = {PRESETS[name].model_type: name for name in reversed(DISTINCT)}
OTHER_TASKS = [
    (name, task_type) for name in FIRST_OF_TYPE.values() for task_type in PRESETS[name].family.task_types[1:]
]


@pytest.mark.parametrize(("quantization", "padding"), [("fp32", 0.25), ("nf4", 0.0)])
@pytest.mark.parametrize(("name", "task_type"), OTHER_TASKS)
def test_other_tasks_than_the_first(
    folders: dict[str, str], name: str, task_type: Any, quantization: Any, padding: float
) -> None:
    settings: dict[str, Any] = {"task_type": task_type, "quantization": quantization, "padding": padding}
    assert_ok(small_case(folders[name], PRESETS[name], task="train", gradient_checkpointing="reentrant", **settings))
    assert_ok(small_case(folders[name], PRESETS[name], task="infer", **settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"quantization": "fp16"},
        {"quantization": "bf16", "attention": "eager"},
        {"quantization": "int8", "kbit_preparation": True, "gradient_checkpointing": "reentrant"},
        {"quantization": "nf4", "double_quantization": True, "compute_dtype": "bf16", "padding": 0.25},
    ],
    ids=["fp16", "eager", "preparation", "padding"],
)
@pytest.mark.parametrize("name", FIRST_OF_TYPE.values())
def test_other_settings(folders: dict[str, str], name: str, settings: dict[str, Any]) -> None:
    preset = PRESETS[name]
    task_type = preset.family.task_types[0]
    assert_ok(replace(small_case(folders[name], preset, task="train", task_type=task_type), **settings))


@pytest.mark.parametrize("name", FIRST_OF_TYPE.values())
def test_full_fine_tuning(folders: dict[str, str], name: str) -> None:
    case = Case(
        scenario="s",
        task="train",
        model=folders[name],
        quantization="fp32",
        adapter=None,
        sequence_length=8,
        measure=Measure(warmup=0, steps=1),
    )
    assert_ok(case)


@pytest.mark.parametrize(
    ("name", "task_type", "reason"),
    [
        (
            "bert-base",
            "SEQ_2_SEQ_LM",
            r"transformers has no SEQ_2_SEQ_LM model of type bert; adapter.task_type can be ",
        ),
        ("t5-small", "CAUSAL_LM", r"transformers has no CAUSAL_LM model of type t5; adapter.task_type can be "),
        ("opt-125m", "TOKEN_CLS", r"transformers has no TOKEN_CLS model of type opt; adapter.task_type can be "),
    ],
)
def test_a_task_that_an_architecture_lacks_is_refused(
    folders: dict[str, str], name: str, task_type: Any, reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        measure(small_case(folders[name], PRESETS[name], task="train", task_type=task_type))
