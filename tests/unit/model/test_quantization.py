"""Quantized models made of random weights are what from_pretrained makes of the same weights on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import bitsandbytes
import pytest
import torch
from tiny_models import CONFIGS, CPU
from torch import nn
from transformers import PreTrainedModel

from lorabench.case import Case
from lorabench.model.build import build_base
from lorabench.model.quantization import backend, is_quantized, quantization_config, quantizing

QUANTIZED: list[dict[str, Any]] = [
    {"quantization": "int8"},
    {"quantization": "int8", "int8_threshold": 0.0, "compute_dtype": "fp16"},
    {"quantization": "nf4"},
    {"quantization": "nf4", "double_quantization": True, "compute_dtype": "fp32"},
]


def facts(parameter: nn.Parameter) -> dict[str, Any]:
    """All that a parameter carries besides its values: bitsandbytes keeps its states there."""
    return {name: type(value) for name, value in vars(parameter).items()}


def assert_same(mine: PreTrainedModel, theirs: PreTrainedModel) -> None:
    left, right = mine.state_dict(), theirs.state_dict()
    assert left.keys() == right.keys()
    for name in left:
        assert left[name].dtype == right[name].dtype, name
        assert torch.equal(left[name], right[name]), name
    assert [type(module) for module in mine.modules()] == [type(module) for module in theirs.modules()]
    for (name, ours), (same_name, other) in zip(mine.named_parameters(), theirs.named_parameters(), strict=True):
        assert name == same_name
        assert ours.requires_grad == other.requires_grad, name
        assert facts(ours) == facts(other), name


@pytest.mark.parametrize("architecture", list(CONFIGS))
@pytest.mark.parametrize("settings", QUANTIZED, ids=lambda settings: "-".join(map(str, settings.values())))
def test_built_equals_saved_and_loaded(
    make_case: Callable[..., Case], tmp_path: Path, architecture: str, settings: dict[str, Any]
) -> None:
    case = make_case(architecture, **settings)
    dense = build_base(replace(case, quantization=case.compute_dtype), CPU)
    dense.save_pretrained(tmp_path)
    built = build_base(case, CPU)
    loaded_plainly = type(dense).from_pretrained(
        tmp_path, quantization_config=quantization_config(case), dtype=dense.dtype, device_map={"": CPU}
    )
    assert_same(built, loaded_plainly)
    assert_same(built, build_base(replace(case, model=str(tmp_path), weights="pretrained"), CPU))


@pytest.mark.parametrize("compute_dtype", ["fp32", "fp16", "bf16"])
def test_int8_codes_follow_the_definition(make_case: Callable[..., Case], compute_dtype: str) -> None:
    """Dettmers et al. 2022, section 2.1: a row is scaled by 127 over its largest magnitude, and rounded."""
    case = make_case(quantization="int8", compute_dtype=compute_dtype)
    layer = build_base(case, CPU).model.layers[1].mlp.down_proj
    dense = build_base(replace(case, quantization=compute_dtype), CPU).model.layers[1].mlp.down_proj.weight.half()
    largest = dense.float().abs().amax(dim=1)
    assert layer.weight.dtype == torch.int8
    assert torch.equal(layer.weight.SCB, largest)
    error = (layer.weight.float() - dense.float() * (127 / largest)[:, None]).abs().max()
    assert error.item() <= 0.5 + 1e-4


@pytest.mark.parametrize("settings", QUANTIZED, ids=lambda settings: "-".join(map(str, settings.values())))
def test_head_and_embedding_stay_dense(make_case: Callable[..., Case], settings: dict[str, Any]) -> None:
    case = make_case("llama", **settings)
    model = build_base(case, CPU)
    dense = build_base(replace(case, quantization=case.compute_dtype), CPU)
    assert torch.equal(model.lm_head.weight, dense.lm_head.weight)
    assert torch.equal(model.get_input_embeddings().weight, dense.get_input_embeddings().weight)
    assert sum(map(is_quantized, model.modules())) == 2 * 7


def test_a_class_alone_is_not_quantized() -> None:
    on_meta = bitsandbytes.nn.Linear8bitLt(4, 4, has_fp16_weights=False, device="meta")
    assert not is_quantized(on_meta)
    assert not is_quantized(bitsandbytes.nn.Linear8bitLt(4, 4, has_fp16_weights=False))
    assert is_quantized(bitsandbytes.nn.Linear8bitLt(4, 4, has_fp16_weights=False).to("cpu"))
    assert not is_quantized(bitsandbytes.nn.Linear4bit(64, 64, quant_type="nf4"))
    assert is_quantized(bitsandbytes.nn.Linear4bit(64, 64, quant_type="nf4").to("cpu"))


def test_int8_stays_quantized_after_a_forward_pass(make_case: Callable[..., Case]) -> None:
    """bitsandbytes moves codes and scales from the weight to the layer's state on the first call."""
    model = build_base(make_case(quantization="int8", compute_dtype="fp32"), CPU)
    model(input_ids=torch.ones(1, 4, dtype=torch.long))
    assert sum(map(is_quantized, model.modules())) == 2 * 7


def test_an_error_while_quantizing_is_itself(make_case: Callable[..., Case], monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers would make a RuntimeError without a cause of it, and an out-of-memory record would be lost."""

    def no_room(*_: Any) -> None:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(bitsandbytes.nn.Int8Params, "_quantize", no_room)
    with pytest.raises(torch.OutOfMemoryError, match="no room"):
        build_base(make_case(quantization="int8"), CPU)


def test_transformers_is_left_as_it_was() -> None:
    from transformers.integrations.bitsandbytes import Bnb4bitQuantize, Bnb8bitQuantize

    before = (Bnb8bitQuantize.convert, Bnb4bitQuantize.convert)
    with quantizing():
        assert Bnb8bitQuantize.convert is not before[0]
    assert (Bnb8bitQuantize.convert, Bnb4bitQuantize.convert) == before


class TestBackend:
    def test_dense_has_none(self, make_case: Callable[..., Case]) -> None:
        assert backend(make_case(), CPU) is None

    def test_the_cpu_has_own_kernels_for_some(self, make_case: Callable[..., Case]) -> None:
        assert backend(make_case(quantization="nf4"), CPU) == "cpu+default"

    def test_a_device_without_own_kernels_falls_back(self, make_case: Callable[..., Case]) -> None:
        # This is what a CUDA device gets when bitsandbytes was imported while no device was visible.
        assert backend(make_case(quantization="int8"), torch.device("xla")) == "default"

    def test_the_registration_decides(self, make_case: Callable[..., Case]) -> None:
        library = torch.library.Library("bitsandbytes", "FRAGMENT")
        for kernel in ("int8_vectorwise_quant", "int8_linear_matmul", "int8_mm_dequant"):
            torch.library.impl(f"bitsandbytes::{kernel}", "mtia", lambda *_: None, lib=library)
        assert backend(make_case(quantization="int8"), torch.device("mtia")) == "mtia"
