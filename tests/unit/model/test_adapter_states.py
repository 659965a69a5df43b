"""The states of a model with adapters, against arithmetic by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from peft import PeftModel
from tiny_models import CPU

from lorabench.case import Case
from lorabench.model import adapter as adapters
from lorabench.model import adapter_states as states
from lorabench.model.build import build_base
from lorabench.model.quantization import keep_unpacked

IDS = torch.arange(3, 19).reshape(1, 16)
TARGETS = {f"model.layers.{layer}.self_attn.{name}" for layer in (0, 1) for name in ("q_proj", "v_proj")}


def attached(case: Case) -> PeftModel:
    model = adapters.attach(build_base(case, CPU), case)
    assert isinstance(model, PeftModel)
    adapters.randomize_adapter(model, case.seed)
    return model.eval()


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = model(input_ids=IDS).logits
    return out


def test_layers_have_the_names_that_they_replaced(make_case: Callable[..., Case]) -> None:
    assert states.lora_layers(attached(make_case())).keys() == TARGETS


def test_merging_in_place_adds_scaled_b_a_and_unmerging_takes_it_away(make_case: Callable[..., Case]) -> None:
    model = attached(make_case())
    before = states.adapted_weights(model)
    assert not states.is_merged(model)
    states.merge_in_place(model)
    assert states.is_merged(model)
    merged = states.adapted_weights(model)
    for name, layer in states.lora_layers(model).items():
        delta = 16 / 8 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        torch.testing.assert_close(merged[name], before[name] + delta.detach())
    states.unmerge(model)
    assert not states.is_merged(model)
    after = states.adapted_weights(model)
    assert before.keys() == TARGETS
    assert all(torch.allclose(after[name], weight, atol=1e-7) for name, weight in before.items())


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize(("quantization", "error"), [("int8", 0.02), ("nf4", 0.15)])
def test_quantized_weights_are_read_as_what_they_stand_for(
    make_case: Callable[..., Case], quantization: str, error: float, used: bool
) -> None:
    dense = states.adapted_weights(attached(make_case(quantization="fp32")))
    model = attached(make_case(quantization=quantization, compute_dtype="fp32"))
    keep_unpacked(model)
    if used:
        # The first forward pass moves int8's scales.
        logits(model)
    read = states.adapted_weights(model)
    for name, weight in dense.items():
        assert 0 < (read[name] - weight).norm() / weight.norm() < error


def test_reading_weights_keeps_a_copy(make_case: Callable[..., Case]) -> None:
    model = attached(make_case())
    before = states.adapted_weights(model)
    states.merge_in_place(model)
    after = states.adapted_weights(model)
    assert not any(torch.equal(after[name], weight) for name, weight in before.items())


def test_switching_disabling_and_deleting(make_case: Callable[..., Case]) -> None:
    case = make_case()
    base = logits(build_base(case, CPU).eval())
    model = attached(case)
    first = logits(model)
    model.add_adapter("second", adapters.lora_config(case.adapter))
    states.switch(model, "second")
    # B of a fresh adapter is zero.
    assert torch.equal(logits(model), base)
    states.switch(model, "default")
    assert torch.equal(logits(model), first)
    with states.disabled(model):
        assert torch.equal(logits(model), base)
    assert torch.equal(logits(model), first)
    states.delete(model, "second")
    assert list(model.peft_config) == ["default"]


def test_todays_peft_does_not_merge_by_mode() -> None:
    assert not states.takes_merge_weights()


def test_a_renewed_adapter_is_another_one_of_the_same_size(make_case: Callable[..., Case]) -> None:
    case = make_case()
    one, two, other = attached(case), attached(case), attached(case)
    adapters.renew_adapter(one, 1)
    torch.manual_seed(99)
    adapters.renew_adapter(two, 1)
    adapters.renew_adapter(other, 2)
    for name, layer in states.lora_layers(one).items():
        twin, stranger = (states.lora_layers(model)[name] for model in (two, other))
        for matrix in ("lora_A", "lora_B"):
            ours, same, theirs = (getattr(at, matrix)["default"].weight for at in (layer, twin, stranger))
            assert torch.equal(ours, same)
            assert not torch.equal(ours, theirs)
        assert layer.get_delta_weight("default").std().item() == pytest.approx(0.004, rel=0.5)


def test_4_bit_layers_stay_in_the_layout_that_dequantization_reads(make_case: Callable[..., Case]) -> None:
    model = build_base(make_case(quantization="nf4"), CPU).eval()
    layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
    for layer in layers:
        layer.support_avx512bf16_for_cpu = True
    before = [layer.weight.data.clone() for layer in layers]
    assert keep_unpacked(model)
    logits(model)
    assert all(torch.equal(layer.weight.data, weight) for layer, weight in zip(layers, before, strict=True))
    assert not keep_unpacked(model)
