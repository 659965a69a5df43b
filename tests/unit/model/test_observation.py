"""What a step shows to a watcher who must not change it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from conftest import Trained
from tiny_models import CPU
from torch import nn

from lorabench.case import Adapter, Case
from lorabench.model import adapter as adapters
from lorabench.model.build import build_base
from lorabench.model.observation import SDPA_MATH, adapter_parameters, observe_step
from lorabench.record import Gradients

Train = Callable[..., "Trained"]
IDS = torch.arange(3, 19).reshape(1, 16)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "t5", "bert", "opt"])
@pytest.mark.parametrize(("mode", "calls"), [("none", 1), ("reentrant", 2), ("non-reentrant", 2)])
def test_each_layer_runs_once_or_twice(
    train: Train, make_case: Callable[..., Case], architecture: str, mode: str, calls: int
) -> None:
    case = make_case(architecture, gradient_checkpointing=mode)
    model = adapters.attach(build_base(case, CPU), case)
    adapters.enable_checkpointing(model, case)
    inputs: dict[str, Any] = {
        "input_ids": IDS,
        "labels": torch.zeros(1, dtype=torch.long) if architecture == "bert" else IDS,
    }
    with observe_step(model, case) as seen:
        model(**inputs).loss.backward()
    layers = 4 if architecture == "t5" else 2
    assert list(seen.layer_forward_calls.values()) == [calls] * layers


def test_gradients_of_the_first_step_are_zero_for_a(make_case: Callable[..., Case]) -> None:
    """B is zero, so A's gradient is: why the proof reads a later step."""
    case = make_case()
    model = adapters.attach(build_base(case, CPU), case)
    with observe_step(model, case) as seen:
        model(input_ids=IDS, labels=IDS).loss.backward()
    assert seen.adapter_gradients == Gradients(expected=8, arrived=8, nonzero=4)


def test_the_watcher_leaves_nothing_behind(make_case: Callable[..., Case]) -> None:
    case = make_case(quantization="int8", compute_dtype="fp32")
    model = adapters.attach(build_base(case, CPU), case)
    with observe_step(model, case) as seen:
        model(input_ids=IDS, labels=IDS).loss.backward()
    calls = dict(seen.layer_forward_calls)
    model(input_ids=IDS, labels=IDS).loss.backward()
    assert seen.layer_forward_calls == calls
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert not any(weight._post_accumulate_grad_hooks for weight in adapter_parameters(model).values())


@pytest.mark.parametrize("mode", ["none", "reentrant", "non-reentrant"])
def test_watching_changes_no_gradient(make_case: Callable[..., Case], mode: str) -> None:
    case = make_case(gradient_checkpointing=mode)
    model = adapters.attach(build_base(case, CPU), case)
    adapters.enable_checkpointing(model, case)
    adapters.randomize_adapter(model, 0)
    model(input_ids=IDS, labels=IDS).loss.backward()
    alone = {name: weight.grad.clone() for name, weight in adapter_parameters(model).items()}
    model.zero_grad()
    with observe_step(model, case):
        model(input_ids=IDS, labels=IDS).loss.backward()
    assert all(torch.equal(weight.grad, alone[name]) for name, weight in adapter_parameters(model).items())


class TestAttention:
    def kernels(self, case: Case) -> tuple[str, ...]:
        model = adapters.attach(build_base(case, CPU), case)
        with observe_step(model, case) as seen, torch.no_grad():
            model(input_ids=IDS)
        return seen.attention_kernels

    def test_eager(self, make_case: Callable[..., Case]) -> None:
        assert self.kernels(make_case(attention="eager")) == ("eager",)

    def test_sdpa_names_the_fused_operator(self, make_case: Callable[..., Case]) -> None:
        assert self.kernels(make_case()) == ("_scaled_dot_product_flash_attention_for_cpu",)

    def test_sdpa_without_a_fused_operator_is_no_eager_attention(self, make_case: Callable[..., Case]) -> None:
        # GPT-2 drops attention weights in training, which the CPU's fused operator cannot.
        assert self.kernels(make_case("gpt2")) == (SDPA_MATH,)

    def test_a_call_without_a_fused_operator_shows_beside_those_with_one(self, make_case: Callable[..., Case]) -> None:
        case = make_case()
        model = adapters.attach(build_base(case, CPU), case)
        query = torch.zeros(1, 1, 2, 8)

        def attend_with_dropout(*_: object) -> None:
            torch.nn.functional.scaled_dot_product_attention(query, query, query, dropout_p=0.5)

        model.register_forward_pre_hook(attend_with_dropout)
        with observe_step(model, case) as seen, torch.no_grad():
            model(input_ids=IDS)
        assert seen.attention_kernels == (SDPA_MATH, "_scaled_dot_product_flash_attention_for_cpu")


class TestOutliers:
    def test_shares_are_those_of_the_inputs(self, make_case: Callable[..., Case]) -> None:
        """A column counts when any token in it reaches the threshold."""
        case = make_case(quantization="int8", compute_dtype="fp32", adapter=None, task="infer", int8_threshold=1.5)
        model = build_base(case, CPU)
        inputs: dict[str, torch.Tensor] = {}
        for layer in (0, 1):
            projection = model.model.layers[layer].mlp.down_proj
            projection.register_forward_pre_hook(
                lambda module, given, layer=layer: inputs.__setitem__(f"model.layers.{layer}.mlp.down_proj", given[0])
            )
        scaled = model.model.layers[0].mlp.down_proj.register_forward_pre_hook(lambda module, given: (given[0] * 100,))
        with observe_step(model, case) as seen, torch.no_grad():
            model(input_ids=IDS)
        scaled.remove()
        assert len(seen.outlier_share) == 14
        name = "model.layers.0.mlp.down_proj"
        columns = inputs[name].half().reshape(-1, 128) * 100
        share = sum(bool((columns[:, index].abs() >= 1.5).any()) for index in range(128)) / 128
        assert 0 < share < 1
        assert seen.outlier_share[name] == pytest.approx(share, abs=0.02)
        assert seen.outlier_share["model.layers.0.self_attn.q_proj"] > 0.5, "normalised columns of 16 tokens"

    @pytest.mark.parametrize("settings", [{"quantization": "int8", "int8_threshold": 0.0}, {"quantization": "nf4"}])
    def test_there_are_none_without_a_threshold(self, make_case: Callable[..., Case], settings: dict[str, Any]) -> None:
        case = make_case(**settings)
        model = adapters.attach(build_base(case, CPU), case)
        with observe_step(model, case) as seen, torch.no_grad():
            model(input_ids=IDS)
        assert seen.outlier_share == {}

    def test_names_are_those_of_the_bare_model(self, make_case: Callable[..., Case]) -> None:
        case = make_case(quantization="int8", compute_dtype="fp32")
        bare = build_base(replace(case, adapter=None), CPU)
        model = adapters.attach(build_base(case, CPU), case)
        with observe_step(model, case) as seen, torch.no_grad():
            model(input_ids=IDS)
        assert all(isinstance(bare.get_submodule(name), nn.Module) for name in seen.outlier_share)


def test_dora_magnitudes_are_adapter_tensors(train: Train, make_case: Callable[..., Case]) -> None:
    trained = train(make_case(adapter=Adapter(options={"use_dora": True})))
    assert trained.proof.adapter_gradients == Gradients(12, 12, 12)
