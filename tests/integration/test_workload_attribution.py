"""Whole cases: categories add up to the peak, on the CPU and in predictions, and a record carries them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import bitsandbytes.functional
import pytest
from in_process import GPT2, LLAMA, OPT, T5, Listener, measure, record, write_config

from lorabench.case import Adapter, Case, Measure
from lorabench.device.allocator import MIB
from lorabench.environment import Environment
from lorabench.record import Record
from lorabench.runner import worker
from lorabench.runner.job import Job
from lorabench.runner.worker import run_job

BATCH, LENGTH = 2, 16
HIDDEN, LAYERS, VOCABULARY, KEY_VALUE = 32, 2, 256, 16
FEED_FORWARD = 64
FLOAT = 4
ADAPTERS = {"gpt2": Adapter(target_modules=("c_attn",)), "t5": Adapter(target_modules=("q", "v"))}


@pytest.fixture(autouse=True)
def _own_code_books(monkeypatch: pytest.MonkeyPatch) -> None:
    """bitsandbytes keeps some for a whole process, and a case has a process to itself."""
    monkeypatch.setattr(bitsandbytes.functional, "name2qmap", {})


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root: Path = tmp_path_factory.mktemp("models")
    configs = {"llama": LLAMA, "opt": OPT, "gpt2": GPT2, "t5": T5}
    return {name: write_config(root / name, name, config) for name, config in configs.items()}


@pytest.fixture
def case(models: dict[str, str]) -> Case:
    return Case(
        scenario="s",
        task="train",
        model=models["llama"],
        quantization="fp32",
        batch_size=BATCH,
        sequence_length=LENGTH,
        new_tokens=4,
        measure=Measure(warmup=1, steps=1),
    )


def memory_of(case: Case) -> Mapping[str, Any]:
    [result] = measure(case, mode="memory")
    assert result["status"] == "ok", result["error"]
    memory: Mapping[str, Any] = result["memory"]
    return memory


@pytest.mark.parametrize("checkpointing", ["none", "reentrant", "non-reentrant"])
@pytest.mark.parametrize("quantization", ["fp32", "bf16", "int8", "nf4"])
def test_no_byte_of_a_training_step_is_left_over(case: Case, quantization: str, checkpointing: str) -> None:
    memory = memory_of(replace(case, quantization=quantization, gradient_checkpointing=checkpointing))
    assert memory["unattributed_bytes"] == 0
    assert sum(memory["categories"].values()) == memory["peak_allocated_bytes"]
    assert ("quantization_state" in memory["categories"]) == (quantization in ("int8", "nf4"))


@pytest.mark.parametrize(
    "settings",
    [
        # State in 8 bits needs tensors of 4096 elements.
        {"optimizer": "adamw-8bit", "adapter": Adapter(rank=128)},
        {"optimizer": "sgd"},
        {"padding": 0.5},
        {"autocast": True},
        {"use_cache": True},
        {"attention": "eager"},
        {"adapter": None},
        {"adapter": Adapter(dropout=0.1, options={"use_dora": True})},
        {"quantization": "nf4", "double_quantization": True, "kbit_preparation": True},
    ],
    ids=str,
)
def test_no_byte_is_left_over_whatever_is_set(case: Case, settings: dict[str, Any]) -> None:
    assert memory_of(replace(case, **settings))["unattributed_bytes"] == 0


@pytest.mark.parametrize("task", ["train", "infer"])
@pytest.mark.parametrize("model", ["opt", "gpt2", "t5"])
def test_no_byte_is_left_over_in_any_architecture(case: Case, models: dict[str, str], model: str, task: str) -> None:
    adapter = ADAPTERS.get(model, Adapter())
    if model == "t5":
        adapter = replace(adapter, task_type="SEQ_2_SEQ_LM")
    memory = memory_of(replace(case, model=models[model], task=task, adapter=adapter))
    assert memory["unattributed_bytes"] == 0
    assert "logits_and_loss" in memory["categories"] or task == "infer"


def test_weights_and_state_are_those_of_the_formula(case: Case) -> None:
    categories = memory_of(case)["categories"]
    attention = HIDDEN * (HIDDEN + KEY_VALUE + KEY_VALUE + HIDDEN)
    layer = attention + 3 * HIDDEN * FEED_FORWARD + 2 * HIDDEN
    rotary = 2 * (HIDDEN // 4 // 2)
    base = 2 * VOCABULARY * HIDDEN + LAYERS * layer + HIDDEN + rotary
    adapter = LAYERS * 8 * ((HIDDEN + HIDDEN) + (HIDDEN + KEY_VALUE))
    assert categories["adapter_weights"] == adapter * FLOAT
    # exp_avg, exp_avg_sq, and a step counter for A and B of two modules of each layer.
    assert categories["optimizer_state"] == (2 * adapter + LAYERS * 4) * FLOAT
    assert categories["base_weights"] == base * FLOAT
    assert categories["inputs"] == BATCH * LENGTH * 8


def test_the_cache_at_the_end_of_decoding_is_that_of_the_formula(case: Case) -> None:
    [result] = measure(replace(case, task="infer", batch_size=BATCH), mode="memory")
    assert result["memory"]["unattributed_bytes"] == 0
    timeline = result["observations"]["attribution"]["timeline"]
    assert [phase["name"] for phase in timeline["phases"]] == ["prefill", "decode"]
    # Keys and values of each layer, for the prompt and the four tokens that were put in after it.
    assert timeline["varying_bytes"]["kv_cache"][-1] == LAYERS * 2 * BATCH * (LENGTH + 4) * KEY_VALUE * FLOAT


def test_non_reentrant_checkpointing_keeps_int8s_inputs_and_they_are_named(case: Case) -> None:
    """The condition that the claim on checkpointing suspects: what bitsandbytes keeps on its context stays alive."""
    [result] = measure(replace(case, quantization="int8", gradient_checkpointing="non-reentrant"), mode="memory")
    kept = {
        one["module"]: one["count"]
        for one in result["observations"]["attribution"]["tensors"]
        if one["category"] == "activations" and not one["is_saved"]
    }
    # The input of down_proj, made in the layer's MLP, in each layer.
    assert kept["model.layers.*.mlp"] == LAYERS
    [other] = measure(replace(case, quantization="int8", gradient_checkpointing="reentrant"), mode="memory")
    reentrant, non_reentrant = other["memory"]["categories"], result["memory"]["categories"]
    assert non_reentrant["activations"] > reentrant["activations"]


def test_a_record_carries_categories_modules_and_a_timeline(case: Case, environment: Environment) -> None:
    found: Record = record(case, environment)
    assert found.status == "ok"
    assert found.memory is not None
    assert found.memory.unattributed_bytes == 0
    told = found.observations["attribution"]
    assert sum(sum(amounts.values()) for amounts in told["modules"].values()) == found.memory.peak_allocated_bytes
    assert {"model.layers.0", "model.layers.1", "lm_head", "model.embed_tokens"} <= set(told["modules"])
    assert [phase["name"] for phase in told["timeline"]["phases"]] == ["forward", "backward", "optimizer"]
    assert found.observations["stages_s"]["attribution"] > 0


def test_a_fault_of_attribution_leaves_what_was_measured(
    case: Case, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the trace is incomplete")

    monkeypatch.setattr(worker, "attribution_pass", fail)
    found: Record = record(case, environment)
    assert found.status == "ok"
    assert found.memory is not None
    assert found.memory.peak_allocated_bytes
    assert not found.memory.categories
    assert found.latency["step"].samples_s
    assert found.observations["warnings"] == ["no attribution of bytes: RuntimeError: the trace is incomplete"]


def predicted(case: Case) -> Mapping[str, Any]:
    listener = Listener()
    run_job(Job((case,), "single", "fake", repeat=0, timeout_s=60.0), listener)
    [result] = [event for event in listener.events if event["event"] == "result"]
    assert result["status"] == "ok", result["error"]
    return result


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("checkpointing", ["none", "non-reentrant"])
def test_a_prediction_has_the_same_categories_and_what_cuda_adds(case: Case, checkpointing: str) -> None:
    case = replace(case, quantization="bf16", gradient_checkpointing=checkpointing)
    memory = predicted(case)["memory"]
    assert memory["unattributed_bytes"] == 0
    categories = memory["categories"]
    assert sum(categories.values()) == memory["peak_allocated_bytes"]
    # A workspace of 32 MiB for the forward pass's thread, and one for autograd's (CublasHandlePool.cpp, Hopper).
    assert categories["library_workspaces"] == 64 * MIB
    assert categories["allocator_slack"] > 0
    on_cpu = memory_of(case)["categories"]
    for name in ("base_weights", "adapter_weights", "inputs"):
        assert categories[name] == on_cpu[name]
    # AdamW's step counters lie on the host, four bytes for A and B of two modules of each layer.
    assert categories["optimizer_state"] == on_cpu["optimizer_state"] - LAYERS * 4 * FLOAT


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_predicted_peak_is_told_operator_by_operator(case: Case) -> None:
    result = predicted(replace(case, quantization="bf16"))
    told = result["observations"]["attribution"]
    timeline = told["timeline"]
    constant = sum(timeline["constant_bytes"].values())
    totals = [
        constant + sum(values[index] for values in timeline["varying_bytes"].values())
        for index in range(len(timeline["at"]))
    ]
    assert max(totals) == told["peak"]["bytes"] == result["memory"]["peak_allocated_bytes"]
    assert timeline["at"][totals.index(max(totals))] == told["peak"]["number"]
    assert "unattributed" not in timeline["varying_bytes"]
    assert "unattributed" not in timeline["constant_bytes"]
