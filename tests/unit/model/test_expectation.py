"""Counts of real architectures, on the meta device: published values, PEFT's own, and the formula must agree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, OPTConfig, PreTrainedConfig, Qwen2Config
from transformers.quantizers.auto import AutoHfQuantizer

from lorabench.case import Adapter, Case
from lorabench.model import adapter as adapters
from lorabench.model.build import build_skeleton
from lorabench.model.expectation import expect
from lorabench.model.proof import count
from lorabench.model.quantization import must_be_quantized, quantization_config

CONFIGS: dict[str, PreTrainedConfig] = {
    "llama-2-7b": LlamaConfig(),
    "llama-2-13b": LlamaConfig(hidden_size=5120, intermediate_size=13824, num_hidden_layers=40, num_attention_heads=40),
    "llama-3-8b": LlamaConfig(
        vocab_size=128256, intermediate_size=14336, num_key_value_heads=8, max_position_embeddings=8192
    ),
    "llama-3.2-1b": LlamaConfig(
        vocab_size=128256,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_key_value_heads=8,
        tie_word_embeddings=True,
    ),
    "llama-3.2-3b": LlamaConfig(
        vocab_size=128256,
        hidden_size=3072,
        intermediate_size=8192,
        num_hidden_layers=28,
        num_attention_heads=24,
        num_key_value_heads=8,
        tie_word_embeddings=True,
    ),
    "qwen2.5-0.5b": Qwen2Config(
        vocab_size=151936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    ),
    "opt-125m": OPTConfig(),
}


@pytest.fixture
def real_case(tmp_path: Path) -> Callable[..., Case]:
    def make(name: str, **settings: Any) -> Case:
        CONFIGS[name].save_pretrained(tmp_path / name)
        return Case(**{"scenario": "s", "task": "train", "model": str(tmp_path / name), **settings})

    return make


@pytest.mark.parametrize(
    ("name", "adapter", "trainable", "total"),
    [
        ("llama-2-7b", Adapter(rank=8), 4_194_304, 6_742_609_920),
        ("llama-2-7b", Adapter(rank=64), 33_554_432, None),
        ("llama-2-7b", Adapter(rank=8, target_modules="all-linear"), 19_988_480, None),
        ("llama-2-13b", Adapter(rank=8), 6_553_600, None),
        ("llama-3.2-3b", Adapter(rank=32), 9_175_040, None),
    ],
)
def test_published_counts(
    real_case: Callable[..., Case], name: str, adapter: Adapter, trainable: int, total: int | None
) -> None:
    case = real_case(name, adapter=adapter)
    base = build_skeleton(case)
    expected = expect(base, case)
    attached = adapters.attach(base, case)
    proof = count(attached, case, torch.device("meta"))
    assert expected.trainable_parameters == trainable
    assert (proof.trainable_parameters, proof.total_parameters) == attached.get_nb_trainable_parameters()
    assert proof.trainable_parameters == trainable
    assert proof.adapter_modules == expected.adapter_modules
    if total is not None:
        assert proof.total_parameters == total


@pytest.mark.parametrize(
    ("name", "ratio", "prepared_ratio"),
    [
        ("llama-2-7b", 0.519, None),
        ("llama-3-8b", 0.565, 0.696),
        ("llama-3.2-1b", 0.606, 0.819),
        ("qwen2.5-0.5b", 0.638, None),
        ("opt-125m", 0.661, 0.983),
    ],
)
def test_int8_weight_bytes_over_fp16(
    real_case: Callable[..., Case], name: str, ratio: float, prepared_ratio: float | None
) -> None:
    base = build_skeleton(real_case(name, quantization="fp16"))
    case = real_case(name, quantization="int8")
    quantized = set(must_be_quantized(base, case))
    in_int8 = in_fp16 = 0
    for parameter_name, weight in base.named_parameters():
        module, _, kind = parameter_name.rpartition(".")
        if module in quantized and kind == "weight":
            in_int8 += weight.numel()
        else:
            in_fp16 += weight.numel()
    whole = 2 * (in_int8 + in_fp16)
    assert (in_int8 + 2 * in_fp16) / whole == pytest.approx(ratio, abs=6e-4)
    if prepared_ratio is not None:
        assert (in_int8 + 4 * in_fp16) / whole == pytest.approx(prepared_ratio, abs=6e-4)


def _saves_all_but(base: Any, case: Case) -> set[str]:
    """What transformers' own quantizer makes of the model."""
    config = quantization_config(case)
    quantizer = AutoHfQuantizer.from_config(config, pre_quantized=False)
    quantizer.preprocess_model(base, device_map=None)
    return {name for name, module in base.named_modules() if hasattr(module, "source_cls")}


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "opt", "gpt2", "t5", "bert"])
@pytest.mark.parametrize("quantization", ["int8", "nf4"])
def test_quantized_names_are_those_that_transformers_replaces(
    make_case: Callable[..., Case], architecture: str, quantization: str
) -> None:
    case = make_case(architecture, quantization=quantization)
    base = build_skeleton(case)
    names = set(must_be_quantized(base, case))
    assert names
    assert names == _saves_all_but(base, case)


@pytest.mark.parametrize("bias", ["none", "all", "lora_only"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "opt", "gpt2", "t5", "bert"])
def test_expected_counts_are_those_of_peft(make_case: Callable[..., Case], architecture: str, bias: str) -> None:
    from dataclasses import replace

    plain = make_case(architecture)
    assert plain.adapter is not None
    case = replace(plain, adapter=replace(plain.adapter, bias=bias))
    base = build_skeleton(case)
    expected = expect(base, case)
    proof = count(adapters.attach(base, case), case, torch.device("meta"))
    assert proof.trainable_parameters == expected.trainable_parameters
    assert proof.adapter_modules == expected.adapter_modules


@pytest.mark.parametrize(
    "options",
    [
        {"use_dora": True},
        {"rank_pattern": {"q_proj": 2}},
        {"layers_to_transform": [1]},
        {"modules_to_save": ["lm_head"]},
        {"exclude_modules": ["v_proj"]},
        {"use_dora": True, "rank_pattern": {"layers.0.self_attn.v_proj": 3}},
    ],
)
def test_expected_counts_follow_options(make_case: Callable[..., Case], options: dict[str, Any]) -> None:
    case = make_case(adapter=Adapter(options=options))
    base = build_skeleton(case)
    expected = expect(base, case)
    proof = count(adapters.attach(base, case), case, torch.device("meta"))
    assert proof.trainable_parameters == expected.trainable_parameters
    assert proof.adapter_modules == expected.adapter_modules


def test_an_option_that_it_cannot_count_leaves_counts_open(make_case: Callable[..., Case]) -> None:
    case = make_case(adapter=Adapter(options={"target_parameters": ["x"]}))
    assert expect(build_skeleton(case), case).trainable_parameters is None


@pytest.mark.parametrize("state", ["base", "merged"])
def test_no_adapter_is_expected_in_other_arms(make_case: Callable[..., Case], state: str) -> None:
    case = make_case(task="infer", adapter_state=state)
    assert expect(build_skeleton(case), case).adapter_modules == 0
