"""What ran is not what was asked for, or did not run to its end: each fault made on purpose, told in the result."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from in_process import LLAMA, measure, write_config
from torch import nn

from lorabench.case import Case, Measure
from lorabench.device.cpu import CpuDevice
from lorabench.model import adapter as adapters
from lorabench.model import build
from lorabench.workload.training import Training


@pytest.fixture
def case(tmp_path: Any) -> Case:
    model = write_config(tmp_path, "llama", LLAMA)
    return Case(
        scenario="s",
        task="train",
        model=model,
        quantization="fp32",
        compute_dtype="fp32",
        int8_threshold=0.0,
        sequence_length=8,
        measure=Measure(warmup=0, steps=1),
    )


@pytest.fixture
def meddle(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[nn.Module], Any]], None]:
    """Has every model meddled with once its adapter is attached."""

    def plan(change: Callable[[nn.Module], Any]) -> None:
        attach = adapters.attach

        def attach_and_change(*arguments: Any) -> nn.Module:
            model = attach(*arguments)
            change(model)
            return model

        monkeypatch.setattr(adapters, "attach", attach_and_change)

    return plan


def assert_invalid(case: Case, reason: str) -> None:
    [result] = measure(case)
    assert result["status"] == "invalid"
    assert result["error"]["type"] == "InvalidCaseError"
    assert re.search(reason, result["error"]["message"]), result["error"]["message"]
    assert "\n" not in result["error"]["message"]
    # What was measured before stays, and nothing was timed.
    assert result["memory"]["peak_allocated_bytes"] > result["memory"]["static_bytes"]
    assert result["proof"] is not None
    assert result["latency"] == {}


@pytest.mark.parametrize("quantization", ["int8", "nf4"])
def test_nothing_is_quantized(case: Case, monkeypatch: pytest.MonkeyPatch, quantization: Any) -> None:
    monkeypatch.setattr(build, "quantization_config", lambda case: None)
    # Two layers of seven linear layers each.
    reason = rf"{quantization} asked, and 0 of 14 linear layers are quantized"
    assert_invalid(replace(case, quantization=quantization), reason)


def test_gradients_do_not_arrive(case: Case, meddle: Any) -> None:
    def cut_after_the_first_layer(model: Any) -> None:
        first = model.get_base_model().model.layers[0]
        first.register_forward_hook(lambda module, inputs, output: output.detach())

    meddle(cut_after_the_first_layer)
    # A and B of two targets in each of two layers; those of the second layer alone have a way back to the loss.
    assert_invalid(case, r"4 of 8 adapter gradients arrived")


def test_gradients_are_zero_without_learning(case: Case) -> None:
    # B stays zero, and so does the gradient of A.
    assert_invalid(replace(case, learning_rate=0.0), r"4 of 8 adapter gradients are all zero")


def test_gradients_are_all_zero(case: Case, meddle: Any) -> None:
    def silence(model: nn.Module) -> None:
        for weight in model.parameters():
            if weight.requires_grad:
                weight.register_hook(torch.zeros_like)

    meddle(silence)
    assert_invalid(case, r"8 of 8 adapter gradients are all zero")


@pytest.mark.parametrize("mode", ["reentrant", "non-reentrant"])
def test_checkpointing_is_not_active(case: Case, monkeypatch: pytest.MonkeyPatch, mode: Any) -> None:
    monkeypatch.setattr(adapters, "enable_checkpointing", lambda model, case: None)
    assert_invalid(
        replace(case, gradient_checkpointing=mode),
        rf"gradient_checkpointing {mode} asked, and it is on in 0 of 2 layers; .* forward 1 times a step instead of 2",
    )


def test_merging_gives_another_model(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    merge = adapters.merge

    @torch.no_grad()
    def merge_badly(model: Any) -> Any:
        merged = merge(model)
        merged.model.layers[0].self_attn.q_proj.weight.mul_(1.5)
        return merged

    monkeypatch.setattr(adapters, "merge", merge_badly)
    arms = [
        replace(case, task="infer", new_tokens=2, adapter_state=state, group="g")
        for state in ("base", "unmerged", "merged")
    ]
    results = measure(*arms, mode="timing")
    for result in results:
        assert result["status"] == "invalid"
        assert re.search(r"merged and unmerged outputs differ by .*fp32 allows 0.001", result["error"]["message"])
        assert result["error"]["phase"] == "compare"
        assert result["latency"] == {}


def test_an_adapter_of_zeros_is_no_adapter(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "randomize_adapter", lambda model, seed: None)
    arms = [replace(case, task="infer", adapter_state=state, group="g") for state in ("base", "unmerged")]
    results = measure(*arms, mode="timing")
    assert {result["status"] for result in results} == {"invalid"}
    assert "the adapter changes nothing" in results[0]["error"]["message"]


def fail_in_backward(model: Any, fault: Exception, at_call: int) -> None:
    calls = 0

    def raise_at_last(gradient: torch.Tensor) -> None:
        nonlocal calls
        calls += 1
        if calls == at_call:
            raise fault

    next(weight for weight in model.parameters() if weight.requires_grad).register_hook(raise_at_last)


@pytest.mark.parametrize(
    "fault",
    [MemoryError(), RuntimeError("[enforce fail at alloc_cpu.cpp] can't allocate memory: you tried 10 bytes")],
    ids=["python", "torch"],
)
def test_full_memory_in_the_backward_pass(case: Case, meddle: Any, fault: Exception) -> None:
    meddle(lambda model: fail_in_backward(model, fault, at_call=3))
    [result] = measure(case)
    assert result["status"] == "oom"
    assert result["error"]["phase"] == "backward"
    assert result["error"]["type"] == type(fault).__name__
    memory = result["memory"]
    assert memory["peak_allocated_bytes"] >= memory["phases"]["backward"]["peak_bytes"] > memory["static_bytes"]


def test_full_memory_in_a_timed_step_is_blamed_on_its_phase(case: Case, meddle: Any) -> None:
    meddle(lambda model: fail_in_backward(model, MemoryError(), at_call=7))
    [result] = measure(case)
    assert (result["status"], result["error"]["phase"]) == ("oom", "backward")
    assert result["proof"] is not None
    assert result["memory"]["dynamic_bytes"] > 0


def test_full_memory_while_loading(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*arguments: Any, **options: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("lorabench.workload.training.build_base", load)
    [result] = measure(case)
    assert (result["status"], result["error"]["phase"]) == ("oom", "load")
    assert result["memory"]["static_bytes"] is None
    assert result["memory"]["dynamic_bytes"] is None


def test_another_error_is_the_runners_to_tell(case: Case, meddle: Any) -> None:
    meddle(lambda model: fail_in_backward(model, ZeroDivisionError("by the test"), at_call=1))
    with pytest.raises(ZeroDivisionError, match="by the test"):
        measure(case)


def test_the_bare_step_keeps_no_loss(case: Case) -> None:
    workload = Training(case, CpuDevice())
    assert workload.observations() == {}
