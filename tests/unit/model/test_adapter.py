"""Adapters as PEFT attaches, fills and merges them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from peft import PeftModel
from tiny_models import ADAPTERS, CONFIGS, CPU
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from lorabench.case import Adapter, Case
from lorabench.errors import InputError
from lorabench.model import adapter as adapters
from lorabench.model.build import build_base
from lorabench.model.quantization import keep_unpacked

IDS = torch.arange(3, 19).reshape(1, 16)
INFER: dict[str, Any] = {"task": "infer"}


def attached(case: Case) -> PeftModel:
    model = adapters.attach(build_base(case, CPU), case)
    assert isinstance(model, PeftModel)
    return model


def lora(model: Any) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in model.named_parameters() if "lora_" in name}


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = model(input_ids=IDS).logits
    return out.float()


def test_a_seed_is_an_adapter(make_case: Callable[..., Case]) -> None:
    case = make_case()
    torch.manual_seed(7)
    first = lora(attached(case))
    torch.manual_seed(8)
    second = lora(attached(case))
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = lora(attached(replace(case, seed=1)))
    assert not any(torch.equal(first[name], other[name]) for name in first if "lora_A" in name)
    assert not any(weight.any() for name, weight in first.items() if "lora_B" in name)


@pytest.mark.parametrize("quantization", ["bf16", "int8", "nf4"])
@pytest.mark.parametrize(("autocast", "dtype"), [(True, torch.float32), (False, torch.bfloat16)])
def test_adapters_are_fp32_unless_told_otherwise(
    make_case: Callable[..., Case], quantization: str, autocast: bool, dtype: torch.dtype
) -> None:
    case = make_case(quantization=quantization, adapter=Adapter(autocast_adapter_dtype=autocast))
    # PEFT takes the dtype of the base weight where that is floating; int8 is not.
    expected = torch.float32 if quantization == "int8" else dtype
    assert {weight.dtype for weight in lora(attached(case)).values()} == {expected}


def test_settings_reach_peft(make_case: Callable[..., Case]) -> None:
    adapter = Adapter(rank=4, alpha=6, dropout=0.25, rslora=True, bias="lora_only", options={"use_dora": True})
    config = attached(make_case(adapter=adapter)).peft_config["default"]
    assert (config.r, config.lora_alpha, config.lora_dropout, config.bias) == (4, 6, 0.25, "lora_only")
    assert config.use_rslora
    assert config.use_dora


@pytest.mark.parametrize(
    "adapter",
    [
        Adapter(options={"no_such_option": 1}),
        Adapter(options={"r": 4}),
        Adapter(target_modules=("nothing_is_called_this",)),
        Adapter(options={"init_lora_weights": "no_such_initialisation"}),
        Adapter(rank=0),
    ],
)
def test_what_peft_refuses_is_one_line(make_case: Callable[..., Case], adapter: Adapter) -> None:
    with pytest.raises(InputError) as caught:
        attached(make_case(adapter=adapter))
    assert str(caught.value).startswith("adapter: ")
    assert "\n" not in str(caught.value)


def test_without_an_adapter_the_model_is_itself(make_case: Callable[..., Case]) -> None:
    case = make_case(adapter=None)
    base = build_base(case, CPU)
    assert adapters.attach(base, case) is base
    assert all(weight.requires_grad for weight in base.parameters())


def test_quantized_weights_cannot_be_trained_in_full(make_case: Callable[..., Case]) -> None:
    case = make_case(adapter=None, quantization="int8")
    with pytest.raises(InputError, match="cannot be trained"):
        adapters.attach(build_base(case, CPU), case)


@pytest.mark.parametrize("quantization", ["int8", "nf4"])
def test_preparation_freezes_and_upcasts(make_case: Callable[..., Case], quantization: str) -> None:
    case = make_case(quantization=quantization, kbit_preparation=True)
    model = adapters.prepare(build_base(case, CPU), case)
    assert not any(weight.requires_grad for weight in model.parameters())
    assert {weight.dtype for weight in model.parameters()} == {
        torch.float32,
        torch.int8 if quantization == "int8" else torch.uint8,
    }
    assert not model.is_gradient_checkpointing


@pytest.mark.parametrize("architecture", list(CONFIGS))
@pytest.mark.parametrize("autocast", [True, False])
def test_fake_adapters_are_like_real_ones(make_case: Callable[..., Case], architecture: str, autocast: bool) -> None:
    case = make_case(
        architecture,
        quantization="bf16",
        adapter=replace(ADAPTERS[architecture], autocast_adapter_dtype=autocast, bias="all"),
    )
    real = attached(case)
    with FakeTensorMode():
        base = build_base(case, CPU)
        before = set(base.parameters())
        fake = adapters.attach(base, case)
    assert all(isinstance(weight.data, FakeTensor) for weight in fake.parameters())
    assert before <= set(fake.parameters()), "the base weights keep their storages"
    assert {name: (w.shape, w.dtype, w.device, w.requires_grad) for name, w in fake.named_parameters()} == {
        name: (w.shape, w.dtype, w.device, w.requires_grad) for name, w in real.named_parameters()
    }


class TestArms:
    @pytest.mark.parametrize("quantization", ["fp32", "int8", "nf4"])
    def test_unmerged_differs_from_base_and_merged_does_not_from_unmerged(
        self, make_case: Callable[..., Case], quantization: str
    ) -> None:
        case = make_case(**INFER, quantization=quantization, compute_dtype="fp32", int8_threshold=0.0)
        bare = build_base(case, CPU)
        keep_unpacked(bare)
        base = logits(bare)
        model = attached(case)
        keep_unpacked(model)
        assert torch.equal(logits(model), base), "B is zero"
        adapters.randomize_adapter(model, case.seed)
        unmerged = logits(model)
        merged_model = adapters.merge(model)
        merged = logits(merged_model)
        effect = (unmerged - base).norm() / base.norm()
        difference = (merged - unmerged).norm() / base.norm()
        assert 0.003 < effect < 1
        # Dense merging is exact but for rounding; quantized weights are rounded to their grid again.
        assert difference < (1e-5 if quantization == "fp32" else effect)
        assert not lora(merged_model)

    def test_merging_adds_scaled_b_a(self, make_case: Callable[..., Case]) -> None:
        case = make_case(**INFER)
        model = attached(case)
        adapters.randomize_adapter(model, 3)
        layer = model.base_model.model.model.layers[0].self_attn.q_proj
        before = layer.base_layer.weight.clone()
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        expected = before + 16 / 8 * b @ a
        merged = adapters.merge(model).model.layers[0].self_attn.q_proj.weight
        torch.testing.assert_close(merged, expected)

    @pytest.mark.parametrize("rank", [2, 8, 32])
    @pytest.mark.parametrize("options", [{}, {"init_lora_weights": "gaussian"}])
    def test_the_adapters_size_does_not_depend_on_its_settings(
        self, make_case: Callable[..., Case], rank: int, options: dict[str, Any]
    ) -> None:
        model = attached(make_case(**INFER, adapter=Adapter(rank=rank, alpha=3, options=options)))
        adapters.randomize_adapter(model, 0)
        layer = model.base_model.model.model.layers[0].self_attn.q_proj
        assert layer.get_delta_weight("default").std().item() == pytest.approx(0.004, rel=0.35)

    def test_values_depend_on_seed_and_name_alone(self, make_case: Callable[..., Case]) -> None:
        case = make_case(**INFER)
        one, two, other = attached(case), attached(case), attached(case)
        adapters.randomize_adapter(one, 1)
        torch.manual_seed(99)
        adapters.randomize_adapter(two, 1)
        adapters.randomize_adapter(other, 2)
        filled = lora(one)
        assert all(torch.equal(weight, lora(two)[name]) for name, weight in filled.items())
        bs = [name for name in filled if "lora_B" in name]
        assert not any(torch.equal(filled[name], lora(other)[name]) for name in bs)
        assert not torch.equal(*(filled[name] for name in bs if "q_proj" in name))

    def test_embeddings_are_filled_too(self, make_case: Callable[..., Case]) -> None:
        case = make_case(**INFER, adapter=Adapter(target_modules=("embed_tokens",)))
        model = attached(case)
        base = logits(model)
        adapters.randomize_adapter(model, 0)
        assert not torch.allclose(logits(model), base)


class TestCheckpointing:
    @pytest.mark.parametrize("mode", ["reentrant", "non-reentrant"])
    def test_the_mode_is_the_cases(self, make_case: Callable[..., Case], mode: str) -> None:
        case = make_case(gradient_checkpointing=mode)
        model = attached(case)
        adapters.enable_checkpointing(model, case)
        layer = model.base_model.model.model.layers[0]
        assert layer.gradient_checkpointing
        assert layer._gradient_checkpointing_func.keywords == {"use_reentrant": mode == "reentrant"}

    @pytest.mark.parametrize("settings", [{"gradient_checkpointing": "none"}, {**INFER}])
    def test_it_stays_off_unless_asked(self, make_case: Callable[..., Case], settings: dict[str, Any]) -> None:
        case = make_case(**settings)
        model = attached(case)
        adapters.enable_checkpointing(model, case)
        assert not model.is_gradient_checkpointing

    def test_gradients_equal_those_without_it(self, make_case: Callable[..., Case]) -> None:
        gradients = {}
        for mode in ("none", "reentrant", "non-reentrant"):
            case = make_case(gradient_checkpointing=mode)
            model = attached(case)
            adapters.randomize_adapter(model, 0)
            adapters.enable_checkpointing(model, case)
            model(input_ids=IDS, labels=IDS).loss.backward()
            gradients[mode] = {name: weight.grad for name, weight in lora(model).items()}
        for mode in ("reentrant", "non-reentrant"):
            for name, gradient in gradients["none"].items():
                torch.testing.assert_close(gradients[mode][name], gradient)
