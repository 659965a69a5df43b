"""Presets are the published architectures: parameter counts to the unit, layer names as transformers builds them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from torch import nn
from transformers import AutoConfig
from transformers.pytorch_utils import Conv1D

from lorabench.catalog import FAMILIES, PRESETS, architecture, describe
from lorabench.errors import InputError

# The published counts, tied weights once: model cards, and the safetensors headers of the checkpoints.
PARAMETERS = {
    "llama-3.2-1b": 1_235_814_400,
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-3-8b": 8_030_261_248,
    "llama-3-70b": 70_553_706_496,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-7b": 7_615_616_512,
    "mistral-7b": 7_241_732_096,
    "opt-125m": 125_239_296,
    "opt-1.3b": 1_315_758_080,
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "t5-small": 60_506_624,
    # BERT without a head is 109,482,240; the classifier of two classes adds 2 x 768 + 2.
    "bert-base": 109_482_240 + 1_538,
    "smollm2-135m": 134_515_008,
}
OURS = ("llama-tiny", "llama-mini", "opt-tiny")
AUTO = {
    "CAUSAL_LM": transformers.AutoModelForCausalLM,
    "SEQ_CLS": transformers.AutoModelForSequenceClassification,
    "SEQ_2_SEQ_LM": transformers.AutoModelForSeq2SeqLM,
    "TOKEN_CLS": transformers.AutoModelForTokenClassification,
    "FEATURE_EXTRACTION": transformers.AutoModel,
}


def build(name: str) -> nn.Module:
    preset = PRESETS[name]
    config = AutoConfig.for_model(preset.model_type, **preset.config)
    with torch.device("meta"):
        model: nn.Module = AUTO[preset.family.task_types[0]].from_config(config)
    return model


def names_of(model: nn.Module, *kinds: type[nn.Module]) -> set[str]:
    return {path.rpartition(".")[2] for path, module in model.named_modules() if isinstance(module, kinds)}


def test_every_preset_is_counted() -> None:
    assert set(PARAMETERS) | set(OURS) == set(PRESETS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_published_parameter_count(name: str) -> None:
    assert sum(parameter.numel() for parameter in build(name).parameters()) == PARAMETERS[name]


def test_tiny_counts_by_hand() -> None:
    def llama(vocabulary: int, hidden: int, intermediate: int, layers: int, kv_hidden: int) -> int:
        attention = 2 * hidden * hidden + 2 * hidden * kv_hidden
        layer = attention + 3 * hidden * intermediate + 2 * hidden
        return 2 * vocabulary * hidden + layers * layer + hidden

    def count(name: str) -> int:
        return sum(parameter.numel() for parameter in build(name).parameters())

    assert count("llama-tiny") == llama(2048, 256, 688, 4, 128)
    assert count("llama-mini") == llama(2048, 512, 1376, 8, 256)
    norms, biases = 2 * 2 * 256, 4 * 256 + 1024 + 256
    layer = 4 * 256 * 256 + 2 * 256 * 1024 + biases + norms
    # OPT's table of positions has two rows in front.
    assert count("opt-tiny") == 2048 * 256 + (2048 + 2) * 256 + 4 * layer + 2 * 256


@pytest.mark.parametrize("name", PRESETS)
def test_layer_names(name: str) -> None:
    family = PRESETS[name].family
    model = build(name)
    linear, embeddings = names_of(model, nn.Linear, Conv1D), names_of(model, nn.Embedding)
    heads = set(family.other_targets) & linear
    assert linear - heads == set(family.linear_layers)
    assert embeddings | heads == set(family.other_targets)
    assert len(heads) == 1
    assert set(family.query_value) <= set(family.linear_layers)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_query_and_value_are_peft_s_own_targets(model_type: str) -> None:
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as TARGETS

    assert set(FAMILIES[model_type].query_value) == set(TARGETS[model_type])


@pytest.mark.parametrize("model_type", FAMILIES)
def test_task_types_are_what_transformers_has(model_type: str) -> None:
    config = type(AutoConfig.for_model(model_type))
    family = FAMILIES[model_type]
    for task_type in family.task_types:
        assert config in AUTO[task_type]._model_mapping, task_type
    assert ("SEQ_2_SEQ_LM" in family.task_types) == (config in AUTO["SEQ_2_SEQ_LM"]._model_mapping)


@pytest.mark.parametrize("name", PRESETS)
def test_learned_positions_are_where_the_table_is(name: str) -> None:
    preset = PRESETS[name]
    tables = [
        module.weight.shape[0]
        for path, module in build(name).named_modules()
        if path.rpartition(".")[2] in ("wpe", "embed_positions", "position_embeddings")
    ]
    key = preset.family.learned_positions
    if key is None:
        assert tables == []
    else:
        offset = 2 if preset.model_type == "opt" else 0
        assert tables == [preset.config[key] + offset]
        assert preset.max_positions == preset.config[key]


def test_tiny_adapter_of_rank_16_has_8_bit_state() -> None:
    # bitsandbytes keeps fp32 state for tensors under 4,096 elements; the smallest adapter tensor is rank x 256.
    assert PRESETS["llama-tiny"].config["hidden_size"] * 16 == 4096


def test_digest_names_the_architecture_and_building_leaves_it_alone() -> None:
    before = {name: architecture(name) for name in PRESETS}
    assert len(set(before.values())) == len(PRESETS)
    config = AutoConfig.for_model("llama", **PRESETS["llama-3.2-1b"].config)
    config.rope_parameters["rope_theta"] = 1.0 * config.rope_parameters["rope_theta"]
    build("llama-3.2-1b")
    fresh = type(PRESETS["gpt2"])
    for name, preset in PRESETS.items():
        assert fresh(preset.description, preset.model_type, preset.config).digest == before[name]


def test_local_architecture_is_the_bytes_of_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "b" / "config.json").write_text('{"model_type": "other"}')
    a, b = architecture(str(tmp_path / "a")), architecture(str(tmp_path / "b"))
    assert a != b
    assert "" not in (a, b)
    assert describe(str(tmp_path / "a")).family is FAMILIES["llama"]
    assert describe(str(tmp_path / "b")).family is None


def test_hub_id_has_no_digest() -> None:
    assert architecture("owner/some-model") == ""


@pytest.mark.parametrize("name", ["lama-tiny", "", "a/b/c", "/no/such/path", "./x", "a b/c", "x" * 5000, "a\0b"])
def test_no_such_model(name: str) -> None:
    with pytest.raises(InputError) as caught:
        architecture(name)
    assert str(caught.value).isprintable()
