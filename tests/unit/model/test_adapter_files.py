"""Adapters in files, against published sizes, the format's own writer, and what PEFT really saves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import save_file
from tiny_models import ADAPTERS, CPU
from transformers import LlamaConfig

from lorabench.case import Adapter, Case
from lorabench.model import adapter as adapters
from lorabench.model import adapter_files as files
from lorabench.model.build import build_base, build_skeleton

IDS = torch.arange(3, 19).reshape(1, 16)


def published(**settings: Any) -> Case:
    return Case(**{"scenario": "s", "task": "lifecycle", "model": "llama-2-7b", **settings})


def expected_bytes(case: Case) -> int:
    shapes = files.expected_shapes(build_skeleton(case), case)
    assert shapes is not None
    return files.safetensors_bytes(shapes)


@pytest.mark.parametrize(("autocast", "nbytes"), [(True, 16_794_200), (False, 8_405_600)])
def test_the_file_of_llama_2_7b_is_as_large_as_published(autocast: bool, nbytes: int) -> None:
    assert expected_bytes(published(adapter=Adapter(autocast_adapter_dtype=autocast))) == nbytes


def test_the_file_of_llama_3_2_3b_is_as_large_as_published(tmp_path: Path) -> None:
    LlamaConfig(
        vocab_size=128256,
        hidden_size=3072,
        intermediate_size=8192,
        num_hidden_layers=28,
        num_attention_heads=24,
        num_key_value_heads=8,
        head_dim=128,
        tie_word_embeddings=True,
    ).save_pretrained(tmp_path)
    assert expected_bytes(published(model=str(tmp_path), adapter=Adapter(rank=32))) == 36_715_216


def test_the_size_is_that_of_the_formats_own_writer(tmp_path: Path) -> None:
    dtypes = (torch.float32, torch.bfloat16, torch.float16, torch.uint8, torch.int8, torch.int64)
    # Names and sizes such that offsets gain a digit in the middle, and one tensor of each rank.
    tensors = {
        f"layer.{index}.{dtype}": torch.zeros((index + 1) * 37, dtype=dtype).reshape(-1, *[1] * (index % 3))
        for index, dtype in enumerate(dtypes)
    }
    file = tmp_path / "file.safetensors"
    save_file(tensors, file, metadata={"format": "pt"})
    shapes = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
    assert files.safetensors_bytes(shapes) == file.stat().st_size


def attached(case: Case) -> tuple[Any, PeftModel]:
    base = build_base(case, CPU)
    shapes = files.expected_shapes(base, case)
    model = adapters.attach(base, case)
    assert isinstance(model, PeftModel)
    return shapes, model


def saved_shapes(folder: Path) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    with safe_open(folder / files.FILE, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in files.keys(folder)}
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "opt", "gpt2", "t5", "bert"])
@pytest.mark.parametrize("bias", ["none", "all", "lora_only"])
def test_what_is_saved_is_what_is_expected(
    make_case: Callable[..., Case], tmp_path: Path, architecture: str, bias: Any
) -> None:
    case = make_case(architecture, adapter=replace(ADAPTERS[architecture], bias=bias))
    shapes, model = attached(case)
    files.save(model, tmp_path)
    saved = saved_shapes(tmp_path)
    assert files.keys(tmp_path) == sorted(saved)
    assert files.file_bytes(tmp_path) == files.safetensors_bytes(saved)
    if (architecture, bias) == ("bert", "all"):
        # Every key that ends in .bias is taken for a trained bias (peft's _get_learnable_bias_state_dict): the head's
        # is written three times, once as it was before training.
        extra = {f"base_model.model.classifier.{copy}.bias" for copy in ("modules_to_save", "original_module")}
        assert saved.keys() - shapes.keys() == extra
        saved = {name: shape for name, shape in saved.items() if name not in extra}
    assert shapes == saved


@pytest.mark.parametrize("quantization", ["fp32", "fp16", "bf16", "int8", "nf4"])
@pytest.mark.parametrize("autocast", [True, False])
def test_dtypes_in_the_file(make_case: Callable[..., Case], tmp_path: Path, quantization: Any, autocast: bool) -> None:
    case = make_case(quantization=quantization, adapter=Adapter(autocast_adapter_dtype=autocast))
    shapes, model = attached(case)
    files.save(model, tmp_path)
    assert shapes == saved_shapes(tmp_path)


@pytest.mark.parametrize(
    ("architecture", "adapter"),
    [
        ("llama", Adapter(target_modules="all-linear")),
        ("opt", Adapter(task_type="SEQ_CLS", bias="all")),
        ("llama", Adapter(options={"rank_pattern": {"v_proj": 3}, "layers_to_transform": [1]})),
        ("llama", Adapter(options={"modules_to_save": ["lm_head"]})),
    ],
)
def test_heads_ranks_and_layers_in_the_file(
    make_case: Callable[..., Case], tmp_path: Path, architecture: str, adapter: Adapter
) -> None:
    shapes, model = attached(make_case(architecture, adapter=adapter))
    files.save(model, tmp_path)
    assert shapes == saved_shapes(tmp_path)


@pytest.mark.parametrize("adapter", [Adapter(options={"use_dora": True}), Adapter(target_modules=("embed_tokens",))])
def test_what_is_not_known_is_not_guessed(make_case: Callable[..., Case], adapter: Adapter) -> None:
    case = make_case(adapter=adapter)
    assert files.expected_shapes(build_base(case, CPU), case) is None


@pytest.mark.parametrize("architecture", ["llama", "opt"])
def test_the_whole_state_is_as_large_as_the_file_of_the_whole_model(
    make_case: Callable[..., Case], tmp_path: Path, architecture: str
) -> None:
    base = build_base(make_case(architecture), CPU)
    base.save_pretrained(tmp_path)
    assert files.safetensors_bytes(files.state_shapes(base)) == files.file_bytes(tmp_path)


def test_tied_weights_are_written_once(make_case: Callable[..., Case]) -> None:
    base = build_base(make_case("qwen2"), CPU)
    assert base.lm_head.weight is base.model.embed_tokens.weight
    assert len({"lm_head.weight", "model.embed_tokens.weight"} & set(files.state_shapes(base))) == 1


def lora(model: Any) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in model.named_parameters() if "lora_" in name}


def test_restore_brings_back_every_value(make_case: Callable[..., Case], tmp_path: Path) -> None:
    case = make_case()
    _, model = attached(case)
    adapters.renew_adapter(model, 5)
    files.save(model, tmp_path)
    _, fresh = attached(case)
    assert not any(torch.equal(weight, lora(model)[name]) for name, weight in lora(fresh).items())
    files.restore(fresh, tmp_path, CPU)
    assert all(torch.equal(weight, lora(model)[name]) for name, weight in lora(fresh).items())


@pytest.mark.parametrize(("autocast", "dtype"), [(True, torch.float32), (False, torch.bfloat16)])
def test_a_loaded_adapter_is_there_under_its_name_and_not_active(
    make_case: Callable[..., Case], tmp_path: Path, autocast: bool, dtype: torch.dtype
) -> None:
    case = make_case(quantization="bf16", adapter=Adapter(autocast_adapter_dtype=autocast))
    _, model = attached(case)
    adapters.renew_adapter(model, 5)
    files.save(model, tmp_path)
    own = {name: weight.clone() for name, weight in lora(model).items()}
    adapters.renew_adapter(model, 6)
    files.load(model, tmp_path, "further", case, CPU)
    loaded = {name: weight for name, weight in lora(model).items() if ".further." in name}
    assert model.active_adapter == files.DEFAULT
    assert {weight.dtype for weight in loaded.values()} == {dtype}
    assert {name.replace(".further.", ".default.") for name in loaded} == own.keys()
    assert all(torch.equal(weight, own[name.replace(".further.", ".default.")]) for name, weight in loaded.items())
