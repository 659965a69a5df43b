"""Proofs: right for models that are what their case asks, and a reason for each that is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from conftest import Trained
from tiny_models import ADAPTERS, CONFIGS, CPU
from torch import nn

from lorabench.case import Adapter, Case
from lorabench.errors import InvalidCaseError
from lorabench.model import adapter as adapters
from lorabench.model.build import build_base
from lorabench.model.observation import observe_step
from lorabench.model.proof import check, count, expect
from lorabench.record import Gradients

Make = Callable[..., Case]
Train = Callable[..., "Trained"]


LLAMA = [("llama", *pair) for pair in product(("bf16", "int8", "nf4"), ("none", "reentrant", "non-reentrant"))]
OTHERS = [
    (architecture, *pair)
    for architecture in CONFIGS
    if architecture != "llama"
    for pair in (("bf16", "reentrant"), ("int8", "non-reentrant"), ("nf4", "none"))
]


@pytest.mark.parametrize(("architecture", "quantization", "mode"), LLAMA + OTHERS)
def test_what_is_asked_is_built(train: Train, make_case: Make, architecture: str, quantization: str, mode: str) -> None:
    trained = train(make_case(architecture, quantization=quantization, gradient_checkpointing=mode))
    trained.check()
    proof = trained.proof
    layers = 4 if architecture == "t5" else 2
    assert proof.layers == layers
    assert proof.checkpointed_layers == (0 if mode == "none" else layers)
    assert (proof.quantized_modules > 0) == (quantization != "bf16")
    tensors = 2 * proof.adapter_modules
    assert proof.adapter_gradients == Gradients(tensors, tensors, tensors)
    assert proof.seeds == {"torch": 0}


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("bias", ["none", "all", "lora_only"])
def test_attention_and_biases(train: Train, make_case: Make, attention: str, bias: str) -> None:
    adapter = replace(ADAPTERS["opt"], bias=bias, dropout=0.1)
    trained = train(make_case("opt", attention=attention, adapter=adapter))
    trained.check()
    assert trained.proof.adapter_dropout == 0.1


def test_full_fine_tuning(train: Train, make_case: Make) -> None:
    trained = train(make_case(adapter=None))
    trained.check()
    assert trained.proof.trainable_parameters == trained.proof.total_parameters
    assert trained.proof.adapter_gradients is None
    # AdamW holds two moments of every parameter.
    assert trained.proof.optimizer_state_dtypes == {"float32": 2 * 4 * trained.proof.total_parameters}


def test_preparation(train: Train, make_case: Make) -> None:
    train(make_case(quantization="int8", kbit_preparation=True, gradient_checkpointing="reentrant")).check()


@pytest.mark.parametrize("quantization", ["int8", "nf4"])
def test_bytes_by_dtype(train: Train, make_case: Make, quantization: str) -> None:
    proof = train(make_case(quantization=quantization)).proof
    linear = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128)
    others = 2 * 256 * 64 + 5 * 64
    codes = {"int8": linear} if quantization == "int8" else {"uint8": linear // 2}
    assert proof.parameter_dtypes == {**codes, "bfloat16": 2 * others, "float32": 4 * proof.trainable_parameters}
    assert proof.total_parameters == linear + others + proof.trainable_parameters


def test_8_bit_state(train: Train, make_case: Make) -> None:
    trained = train(make_case(optimizer="adamw-8bit", adapter=Adapter(rank=64)))
    trained.check()
    assert trained.proof.optimizer_state_dtypes["uint8"] > 0


@pytest.mark.parametrize("quantization", ["fp32", "int8", "nf4"])
@pytest.mark.parametrize("state", ["base", "unmerged", "merged"])
def test_arms_of_inference(make_case: Make, quantization: str, state: str) -> None:
    case = make_case(task="infer", adapter_state=state, quantization=quantization)
    model: nn.Module = build_base(case, CPU)
    expected = expect(model, case)
    if state != "base":
        model = adapters.attach(model, case)
        adapters.randomize_adapter(model, case.seed)
    if state == "merged":
        model = adapters.merge(model)
    with observe_step(model, case) as seen, torch.no_grad():
        model(input_ids=torch.ones(1, 8, dtype=torch.long))
    proof = count(model, case, CPU, seen)
    check(case, proof, expected, "cpu")
    assert proof.adapter_modules == (4 if state == "unmerged" else 0)
    assert proof.quantized_modules == (0 if quantization == "fp32" else 14)


class TestInvalid:
    """Each model is broken for real; the reason names what is wrong."""

    def reason(self, trained: Trained, device_type: str = "cpu") -> str:
        with pytest.raises(InvalidCaseError) as caught:
            trained.check(device_type)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def test_quantization_was_skipped(self, train: Train, make_case: Make) -> None:
        case = make_case(quantization="int8")
        dense = build_base(replace(case, quantization="bf16"), CPU)
        assert "0 of 14 linear layers are quantized" in self.reason(train(case, base=dense))

    def test_one_layer_was_left_out(self, train: Train, make_case: Make) -> None:
        def leave_out(model: nn.Module) -> None:
            layer = nn.Linear(64, 64, bias=False, dtype=torch.bfloat16).requires_grad_(False)
            model.get_submodule("base_model.model.model.layers.1.self_attn").o_proj = layer

        trained = train(make_case(quantization="nf4"), meddle=leave_out)
        assert "nf4 asked, and 13 of 14 linear layers are quantized" in self.reason(trained)

    def test_quantization_was_not_asked(self, train: Train, make_case: Make) -> None:
        case = make_case(quantization="bf16")
        quantized = build_base(replace(case, quantization="int8"), CPU)
        assert "bf16 asked, and 14 of 0" in self.reason(train(case, base=quantized))

    def test_default_kernels_on_cuda(self, train: Train, make_case: Make) -> None:
        trained = train(make_case(quantization="int8"))
        trained.proof = replace(trained.proof, quantization_backend="default")
        assert "int8 runs on bitsandbytes' default kernels instead of CUDA's" in self.reason(trained, "cuda")

    def test_another_dtype(self, train: Train, make_case: Make) -> None:
        case = make_case(quantization="bf16")
        base = build_base(replace(case, quantization="fp32"), CPU)
        assert "bf16 asked, and parameters are float32" in self.reason(train(case, base=base))

    def test_preparation_was_skipped(self, train: Train, make_case: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(adapters, "prepare", lambda model, case: model)
        trained = train(make_case(quantization="int8", kbit_preparation=True))
        assert "still in 16 bits" in self.reason(trained)

    def test_adapters_on_other_layers(self, train: Train, make_case: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        case = make_case()
        attach = adapters.attach
        monkeypatch.setattr(
            adapters,
            "attach",
            lambda model, case: attach(model, replace(case, adapter=Adapter(target_modules=("q_proj",)))),
        )
        reason = self.reason(train(case))
        assert "2 layers have an adapter instead of 4" in reason
        assert "parameters are trainable instead of" in reason
        assert "4 adapter tensors train instead of 8" in reason

    def test_another_rank(self, train: Train, make_case: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        attach = adapters.attach
        monkeypatch.setattr(
            adapters, "attach", lambda model, case: attach(model, replace(case, adapter=Adapter(rank=4)))
        )
        assert "1792 parameters are trainable instead of 3584" in self.reason(train(make_case()))

    def test_another_dropout(self, train: Train, make_case: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        attach = adapters.attach
        monkeypatch.setattr(
            adapters, "attach", lambda model, case: attach(model, replace(case, adapter=Adapter(dropout=0.5)))
        )
        assert "dropout is 0.5 instead of 0.0" in self.reason(train(make_case()))

    def test_an_adapter_that_is_frozen(self, train: Train, make_case: Make) -> None:
        def freeze(model: nn.Module) -> None:
            model.get_submodule("base_model.model.model.layers.0.self_attn.q_proj.lora_A").requires_grad_(False)

        assert "7 adapter tensors train instead of 8" in self.reason(train(make_case(), meddle=freeze))

    def test_a_gradient_that_is_zeroed(self, train: Train, make_case: Make) -> None:
        def zero(model: nn.Module) -> None:
            layer = model.get_submodule("base_model.model.model.layers.0.self_attn.q_proj.lora_B.default")
            layer.weight.register_hook(torch.zeros_like)

        reason = self.reason(train(make_case(), meddle=zero))
        # With B at zero for good, A gets no gradient either.
        assert "2 of 8 adapter gradients are all zero" in reason

    def test_reentrant_checkpointing_without_input_gradients(self, train: Train, make_case: Make) -> None:
        """Nothing complains but for a warning: the loss has a graph through the head alone, or none."""
        case = make_case(gradient_checkpointing="reentrant")
        trained = train(case, meddle=lambda model: model.get_base_model().disable_input_require_grads())
        assert "0 of 8 adapter gradients arrived" in self.reason(trained)

    @pytest.mark.parametrize("mode", ["reentrant", "non-reentrant"])
    def test_checkpointing_was_switched_off(self, train: Train, make_case: Make, mode: str) -> None:
        case = make_case(gradient_checkpointing=mode)
        reason = self.reason(train(case, meddle=lambda model: model.get_base_model().gradient_checkpointing_disable()))
        assert f"{mode} asked, and it is on in 0 of 2 layers" in reason
        assert "1 times a step instead of 2" in reason

    def test_checkpointing_only_claims_to_be_on(self, train: Train, make_case: Make) -> None:
        def bypass(model: nn.Module) -> None:
            for layer in model.get_submodule("base_model.model.model.layers").children():
                layer._gradient_checkpointing_func = lambda function, *arguments, **_: function(*arguments)

        reason = self.reason(train(make_case(gradient_checkpointing="non-reentrant"), meddle=bypass))
        assert reason.endswith("a layer runs forward 1 times a step instead of 2")

    def test_checkpointing_was_not_asked(self, train: Train, make_case: Make) -> None:
        reason = self.reason(
            train(make_case(), meddle=lambda model: model.get_base_model().gradient_checkpointing_enable())
        )
        assert "none asked, and it is on in 2 of 2 layers" in reason
        assert "2 times a step instead of 1" in reason

    def test_other_attention(self, train: Train, make_case: Make) -> None:
        trained = train(make_case(), meddle=lambda model: model.get_base_model().set_attn_implementation("eager"))
        assert "attention sdpa asked, and eager ran" in self.reason(trained)

    def test_eval_mode_in_training(self, train: Train, make_case: Make) -> None:
        assert "eval mode" in self.reason(train(make_case(), meddle=lambda model: model.eval()))

    def test_no_8_bit_state(self, train: Train, make_case: Make) -> None:
        """8-bit AdamW keeps fp32 for tensors under 4,096 elements, so a tiny case runs none of it."""
        assert "no optimizer state is in 8 bits" in self.reason(train(make_case(optimizer="adamw-8bit")))

    def test_merged_arm_that_was_not_merged(self, make_case: Make) -> None:
        case = make_case(task="infer", adapter_state="merged")
        base = build_base(case, CPU)
        expected = expect(base, case)
        model = adapters.attach(base, case)
        with pytest.raises(InvalidCaseError, match="4 layers have an adapter instead of 0"):
            check(case, count(model, case, CPU), expected, "cpu")

    def test_all_reasons_are_given(self, train: Train, make_case: Make) -> None:
        def break_twice(model: Any) -> None:
            model.eval()
            model.get_base_model().set_attn_implementation("eager")

        assert self.reason(train(make_case(), meddle=break_twice)).count(";") == 1
