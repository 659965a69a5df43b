"""The life of adapters against what a user would do by hand, and with each thing broken on purpose."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from in_process import GPT2, LLAMA, NO_PHASES, OPT, T5, Listener, measure, record, write_config
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaForCausalLM

from lorabench.case import Adapter, Case, Measure
from lorabench.device.cpu import CpuDevice
from lorabench.device.padding import is_padded
from lorabench.environment import Environment
from lorabench.model import adapter as adapters
from lorabench.model import adapter_files as files
from lorabench.model import adapter_states as states
from lorabench.model.build import build_base
from lorabench.runner.job import Job
from lorabench.runner.worker import run_job
from lorabench.workload import make_life
from lorabench.workload.lifecycle.models import Models

BERT = {**{name: LLAMA[name] for name in LLAMA if name != "num_key_value_heads"}, "max_position_embeddings": 64}
MODELS: dict[str, tuple[dict[str, Any], Adapter]] = {
    "llama": (LLAMA, Adapter()),
    "opt": ({**OPT, "dropout": 0.0}, Adapter()),
    "gpt2": (GPT2, Adapter(target_modules=("c_attn",))),
    "t5": (T5, Adapter(target_modules=("q", "v"), task_type="SEQ_2_SEQ_LM")),
    "bert": (BERT, Adapter(target_modules=("query", "value"), task_type="SEQ_CLS")),
}
STEPS = 3
REPEATED = {"attach", "unload", "forward", "disabled_forward", "base_forward", "save", "restore", "merge", "unmerge"}
# Two layers, q 32 x 32 and v 16 x 32, rank 8.
ADAPTER_NUMBERS = 2 * 8 * ((32 + 32) + (32 + 16))


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("models")
    return {name: write_config(root / name, name, config) for name, (config, _) in MODELS.items()}


@pytest.fixture
def make_case(folders: dict[str, str]) -> Callable[..., Case]:
    def make(architecture: str = "llama", **settings: Any) -> Case:
        defaults: dict[str, Any] = {
            "quantization": "fp32",
            "int8_threshold": 0.0,
            "adapter": MODELS[architecture][1],
            "sequence_length": 16,
            "measure": Measure(warmup=1, steps=STEPS),
        }
        return Case(**{"scenario": "s", "task": "lifecycle", "model": folders[architecture], **defaults, **settings})

    return make


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's temporary files go; there must be none in the end."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def live(case: Case) -> dict[str, Any]:
    """The observations of a life that went well."""
    [result] = measure(case)
    assert result["status"] == "ok", result["error"]
    found: dict[str, Any] = result["observations"]["lifecycle"]
    return found


def at(found: Any, path: str) -> Any:
    for name in path.split("."):
        found = found[name]
    return found


@pytest.mark.parametrize("quantization", ["fp32", "fp16", "bf16", "int8", "nf4"])
def test_what_holds_in_every_dtype(make_case: Callable[..., Case], quantization: Any) -> None:
    found = live(make_case(quantization=quantization, adapter_count=2))
    names = ("modules.unexpected", "modules.missing", "save.other_keys")
    assert [at(found, name) for name in names] == [[], [], []]
    assert found["modules"]["replaced"] == found["modules"]["expected"] == 4
    assert found["trainable"] == {"lora": ADAPTER_NUMBERS, "bias": 0, "head": 0, "other": 0}
    true = (
        *("identity.equal_before_step", "base_unchanged", "disable.equal_inside", "disable.equal_after"),
        *("restore.equal", "unload.outputs_equal_merged", "merged_save.outputs_equal"),
        *("adapters.equal_alone", "switch.follows"),
    )
    assert [path for path in true if at(found, path) is not True] == []
    assert found["identity"]["equal_after_step"] is False
    assert found["identity"]["max_abs_after"] > 1e-3
    assert found["modes"] == {"merged_after_eval": False, "merged_after_train": True, "merge_weights_argument": False}
    assert found["save"]["keys"] == 8
    assert found["save"]["file_bytes"] == found["save"]["expected_bytes"]
    difference = found["merged_save"]["file_bytes"] - found["save"]["full_file_bytes"]
    # Merging adds in fp32, and nf4's state names the dtype that it was made of: a word in each merged layer's header.
    assert 0 < abs(difference) < 4 * 32 if quantization == "nf4" else difference == 0
    assert found["adapters"]["bytes_each"] == [4 * ADAPTER_NUMBERS] * 2
    assert found["adapters"]["expected_bytes"] == 4 * ADAPTER_NUMBERS
    assert found["delete"] == {"adapters_left": 2, "bytes_back": 4 * ADAPTER_NUMBERS}
    assert (found["unload"]["lora_modules_left"], found["unload"]["bytes_over_base"]) == (0, 0)


def test_merging_loses_what_the_dtype_cannot_hold(make_case: Callable[..., Case]) -> None:
    lost = {}
    for quantization in ("fp32", "fp16", "bf16", "int8", "nf4"):
        found = live(make_case(quantization=quantization))
        lost[quantization] = found["merge"]["weights_relative"]
        assert found["merge"]["outputs_relative"] > 0
        assert found["disable"]["merged_equal_inside"] is False
        assert found["disable"]["merged_max_abs_inside"] > 0
    # Rounding W + BA and W again: a small multiple of the dtype's epsilon, relative to the weights.
    for quantization, dtype in (("fp32", torch.float32), ("fp16", torch.float16), ("bf16", torch.bfloat16)):
        assert 0.05 < lost[quantization] / torch.finfo(dtype).eps < 1
    # A code of int8 is max / 127 wide; nf4 has 16 for all.
    assert lost["bf16"] < lost["int8"] < 0.02 < lost["nf4"] < 0.3


def test_numbers_are_those_of_a_life_by_hand(make_case: Callable[..., Case]) -> None:
    case = make_case(quantization="bf16", seed=3)
    found = live(case)
    base = build_base(case, torch.device("cpu")).eval()
    config = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    torch.manual_seed(3)
    model = get_peft_model(base, config)
    ids = torch.randint(256, (1, 16), generator=torch.Generator().manual_seed(3))
    for _ in range(2):
        model.train()
        model(input_ids=ids, labels=ids).loss.backward()
        with torch.no_grad():
            for weight in model.parameters():
                if weight.grad is not None:
                    weight -= 1e-3 * weight.grad.sign()
                    weight.grad = None
    adapters.randomize_adapter(model, 3)
    model.eval()

    def logits() -> torch.Tensor:
        with torch.no_grad():
            return model(input_ids=ids).logits.double()

    weight = model.base_model.model.model.layers[0].self_attn.q_proj.base_layer.weight
    weights = [
        layer.self_attn.get_submodule(f"{name}.base_layer").weight
        for layer in model.base_model.model.model.layers
        for name in ("q_proj", "v_proj")
    ]
    before, active = [one.double().clone() for one in weights], logits()
    model.merge_adapter()
    merged = logits()
    model.unmerge_adapter()
    off = sum((one.double() - was).square().sum() for one, was in zip(weights, before, strict=True))
    held = sum(was.square().sum() for was in before)
    assert weight.dtype == torch.bfloat16
    assert found["merge"]["weights_relative"] == pytest.approx(float((off / held).sqrt()))
    largest = max(float((one.double() - was).abs().max()) for one, was in zip(weights, before, strict=True))
    assert found["merge"]["weights_max_abs"] == pytest.approx(largest)
    assert found["merge"]["outputs_max_abs"] == pytest.approx(float((merged - active).abs().max()))
    assert found["merge"]["outputs_relative"] == pytest.approx(float((merged - active).norm() / active.norm()))


@pytest.mark.parametrize("architecture", ["opt", "gpt2", "t5", "bert"])
def test_other_architectures_live_too(make_case: Callable[..., Case], architecture: str) -> None:
    found = live(make_case(architecture))
    assert found["identity"]["equal_before_step"]
    assert not found["identity"]["equal_after_step"]
    for path in ("base_unchanged", "restore.equal", "adapters.equal_alone", "switch.follows", "disable.equal_inside"):
        assert at(found, path), path
    assert found["save"]["file_bytes"] == found["save"]["expected_bytes"]


@pytest.mark.parametrize(("bias", "trained"), [("all", 2 * (4 * 32 + 64 + 32 + 2 * 32) + 32), ("lora_only", 4 * 32)])
def test_trained_biases_are_saved_restored_and_stay_when_disabled(
    make_case: Callable[..., Case], bias: Any, trained: int
) -> None:
    found = live(make_case("opt", adapter=Adapter(bias=bias)))
    assert found["trainable"]["bias"] == trained
    assert all(name.endswith(".bias") for name in found["save"]["other_keys"])
    biases = 2 * 8 + 1 if bias == "all" else 4
    assert len(found["save"]["other_keys"]) == biases
    assert found["save"]["file_bytes"] == found["save"]["expected_bytes"]
    assert found["restore"]["equal"]
    assert found["base_unchanged"], "trained biases are no part of what must stay"
    assert not found["disable"]["equal_inside"]
    assert found["disable"]["max_abs_inside"] > 1e-4
    assert found["disable"]["equal_after"]
    for part in ("adapters", "switch", "delete"):
        assert "supports only 1 adapter with bias" in found[part]["refused"]


def test_a_trained_head_is_saved_and_every_adapter_has_its_own(make_case: Callable[..., Case]) -> None:
    found = live(make_case("opt", adapter=Adapter(task_type="SEQ_CLS"), adapter_count=2))
    # Two labels, no bias.
    assert found["trainable"]["head"] == 2 * 32
    assert found["save"]["other_keys"] == ["base_model.model.score.weight"]
    each = 4 * (2 * 2 * 8 * (32 + 32) + 2 * 32)
    assert found["adapters"]["bytes_each"] == [each] * 2
    assert found["adapters"]["expected_bytes"] == each
    assert found["adapters"]["equal_alone"]
    assert found["disable"]["equal_inside"], "the head as it was before training comes back"


def test_a_prepared_model_lives_in_fp32(make_case: Callable[..., Case]) -> None:
    found = live(make_case(quantization="int8", kbit_preparation=True))
    assert found["identity"]["equal_before_step"]
    assert found["restore"]["equal"]


def test_phases_their_bytes_and_their_samples(make_case: Callable[..., Case]) -> None:
    case = make_case(adapter_count=4)
    [result] = measure(case)
    memory, latency = result["memory"], result["latency"]
    phases = memory["phases"]
    once = {"load", "step", "delete"}
    assert set(phases) == REPEATED | once | {"load_adapter", "switch"}
    assert set(latency) == REPEATED | {"load_adapter", "switch"}
    assert {name: len(samples) for name, samples in latency.items()} == {
        **dict.fromkeys(REPEATED | {"switch"}, STEPS),
        "load_adapter": 4,
    }
    assert all(seconds > 0 for samples in latency.values() for seconds in samples)
    assert result["observations"]["lifecycle"]["adapters"]["load_s"] == latency["load_adapter"]
    adapter_bytes = 4 * ADAPTER_NUMBERS
    assert memory["static_bytes"] == phases["load"]["after_bytes"] + adapter_bytes
    assert memory["peak_allocated_bytes"] == max(
        phase["peak_bytes"] for name, phase in phases.items() if name not in ("load", "attach")
    )
    assert memory["dynamic_bytes"] == memory["peak_allocated_bytes"] - memory["static_bytes"]
    resting = memory["static_bytes"] + 16 * 8
    for name in ("step", "forward", "merge", "unmerge", "save", "restore"):
        assert (phases[name]["before_bytes"], phases[name]["after_bytes"]) == (resting, resting), name
    # B @ A of the largest layer, and that times the scaling.
    assert phases["merge"]["peak_bytes"] == resting + 2 * 32 * 32 * 4
    # A restored adapter lies there twice for a moment.
    assert phases["restore"]["peak_bytes"] == resting + adapter_bytes
    assert phases["delete"]["before_bytes"] == resting + 4 * adapter_bytes
    assert phases["delete"]["after_bytes"] == resting + 3 * adapter_bytes
    assert phases["base_forward"]["before_bytes"] == resting - adapter_bytes


def test_the_proof_is_that_of_the_second_training_step(
    make_case: Callable[..., Case], environment: Environment
) -> None:
    lived = record(make_case(), environment)
    assert lived.status == "ok", lived.error
    proof = lived.proof
    assert proof is not None
    assert proof.adapter_gradients is not None
    assert vars(proof.adapter_gradients) == {"expected": 8, "arrived": 8, "nonzero": 8}
    assert proof.trainable_parameters == ADAPTER_NUMBERS
    assert proof.layer_forward_calls_per_step == 1.0
    assert lived.tokens_per_s is None
    json.dumps(lived.to_dict(), allow_nan=False)


def test_int8_schemes_are_observed_beside(make_case: Callable[..., Case]) -> None:
    [result] = measure(make_case(quantization="int8"))
    assert result["observations"]["schemes"]["absmax_codes"]["compared"] > 0
    assert "schemes" not in measure(make_case())[0]["observations"]


class TestFaults:
    """Each thing broken on purpose must be seen."""

    def test_an_adapter_that_reaches_too_much(self, make_case: Callable[..., Case], monkeypatch: Any) -> None:
        config = adapters.lora_config
        wider = ("q_proj", "v_proj", "o_proj")
        monkeypatch.setattr(adapters, "lora_config", lambda adapter: config(replace(adapter, target_modules=wider)))
        [result] = measure(make_case())
        assert result["status"] == "invalid"
        assert "6 layers have an adapter instead of 4" in result["error"]["message"]

    def test_a_base_that_is_trained(self, make_case: Callable[..., Case], monkeypatch: Any) -> None:
        step = Models.train_step

        def meddle(models: Models, model: Any) -> None:
            step(models, model)
            with torch.no_grad():
                model.get_base_model().model.norm.weight[0] += 1

        monkeypatch.setattr(Models, "train_step", meddle)
        assert live(make_case())["base_unchanged"] is False

    def test_an_adapter_that_is_no_identity(self, make_case: Callable[..., Case], monkeypatch: Any) -> None:
        attach = Models.attach

        def meddle(models: Models, base: Any) -> PeftModel:
            model = attach(models, base)
            adapters.randomize_adapter(model, 0)
            return model

        monkeypatch.setattr(Models, "attach", meddle)
        identity = live(make_case())["identity"]
        assert identity["equal_before_step"] is False
        assert identity["max_abs_before"] > 1e-3

    def test_a_restore_that_does_nothing(self, make_case: Callable[..., Case], monkeypatch: Any) -> None:
        monkeypatch.setattr(files, "restore", lambda *arguments: None)
        restore = live(make_case())["restore"]
        assert restore["equal"] is False
        assert restore["max_abs"] > 1e-3

    def test_a_switch_that_does_nothing(self, make_case: Callable[..., Case], monkeypatch: Any) -> None:
        monkeypatch.setattr(states, "switch", lambda *arguments: None)
        found = live(make_case(adapter_count=2))
        assert found["switch"]["follows"] is False
        assert found["adapters"]["equal_alone"] is False

    def test_an_adapter_loaded_from_the_wrong_file(self, make_case: Callable[..., Case], monkeypatch: Any) -> None:
        load = files.load
        monkeypatch.setattr(
            files, "load", lambda model, folder, *rest: load(model, folder.with_name("adapter-0"), *rest)
        )
        found = live(make_case(adapter_count=2))
        assert found["adapters"]["equal_alone"] is False
        assert found["switch"]["follows"] is False

    def test_a_merge_that_does_nothing(self, make_case: Callable[..., Case], monkeypatch: Any) -> None:
        monkeypatch.setattr(adapters, "merge", lambda model: model.unload())
        unload = live(make_case())["unload"]
        assert unload["outputs_equal_merged"] is False
        assert unload["outputs_max_abs_merged"] > 1e-3

    def test_layers_that_are_left(self, make_case: Callable[..., Case], monkeypatch: Any) -> None:
        monkeypatch.setattr(adapters, "merge", lambda model: model)
        life = make_life(make_case(), CpuDevice())
        device = life._models.device
        with closing(life), device.session(), device.counting():
            life.build(NO_PHASES)
            life.start()
            life.live(NO_PHASES)
        # The attached adapter's bytes are still there; the one beside it was deleted.
        assert life._memory.unloaded == {"lora_modules_left": 4, "bytes_over_base": 4 * ADAPTER_NUMBERS}

    def test_outputs_that_are_not_finite(self, make_case: Callable[..., Case], monkeypatch: Any) -> None:
        forward = Models.forward
        monkeypatch.setattr(Models, "forward", lambda models, model: forward(models, model) / 0)
        [result] = measure(make_case())
        assert (result["status"], result["error"]["type"]) == ("invalid", "InvalidCaseError")
        assert "not finite" in result["error"]["message"]

    def test_memory_that_runs_out(self, make_case: Callable[..., Case], monkeypatch: Any) -> None:
        def fill(*_: Any) -> None:
            raise MemoryError

        monkeypatch.setattr(states, "merge_in_place", fill)
        [result] = measure(make_case())
        assert (result["status"], result["error"]["phase"]) == ("oom", "merge")
        assert result["memory"]["phases"]["merge"]["peak_bytes"] > 0

    def test_a_model_that_cannot_be_saved(self, make_case: Callable[..., Case], monkeypatch: Any) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise ValueError("not serializable\nat all")

        monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", refuse)
        assert live(make_case())["merged_save"] == {"refused": "ValueError: not serializable at all"}


@pytest.mark.parametrize("fault", [None, ZeroDivisionError("by the test"), KeyboardInterrupt()])
def test_no_file_is_left(
    make_case: Callable[..., Case], temporary: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException | None
) -> None:
    written = []
    save = files.save

    def save_and_fail(model: Any, folder: Path) -> None:
        save(model, folder)
        written.extend(temporary.rglob(files.FILE))
        if fault is not None:
            raise fault

    monkeypatch.setattr(files, "save", save_and_fail)
    if fault is None:
        measure(make_case())
    else:
        with pytest.raises(type(fault)):
            measure(make_case())
    assert written
    assert list(temporary.iterdir()) == []


LIVED = (
    *("load", "attach", "step", "forward", "disabled_forward", "save", "merge", "unmerge", "restore", "load_adapter"),
    *("switch", "delete", "unload", "base_forward"),
)


def predicted(case: Case) -> dict[str, Any]:
    listener = Listener()
    run_job(Job((case,), "single", "fake", repeat=0, timeout_s=60.0), listener)
    [result] = [event for event in listener.events if event["event"] == "result"]
    assert result["status"] == "ok", result["error"]
    return dict(result)


@pytest.mark.parametrize("quantization", ["fp32", "fp16", "bf16", "int8", "nf4"])
def test_the_bytes_of_a_life_are_predicted(make_case: Callable[..., Case], quantization: Any) -> None:
    result = predicted(make_case(quantization=quantization, adapter_count=3))
    phases, proof = result["memory"]["phases"], result["proof"]
    assert tuple(phases) == LIVED
    assert (proof["adapter_modules"], proof["trainable_parameters"]) == (4, ADAPTER_NUMBERS)
    adapter_bytes = 4 * ADAPTER_NUMBERS
    assert adapter_bytes % 512 == 0, "or blocks would be larger"
    attach, load_adapter, delete = (phases[name] for name in ("attach", "load_adapter", "delete"))
    assert attach["after_bytes"] - attach["before_bytes"] == adapter_bytes
    # The last of three: its file's tensors, and the adapter that they go into.
    assert load_adapter["after_bytes"] - load_adapter["before_bytes"] == adapter_bytes
    assert load_adapter["peak_bytes"] - load_adapter["before_bytes"] == 2 * adapter_bytes
    assert delete["before_bytes"] - delete["after_bytes"] == adapter_bytes
    # Nothing of LoRA is left: a block of token ids is.
    assert phases["base_forward"]["before_bytes"] - phases["load"]["after_bytes"] == 512
    assert phases["save"]["peak_bytes"] == phases["save"]["before_bytes"], "files take nothing of the device"
    assert result["latency"] == {}
    # What is compared needs values; what bytes each part took does not.
    told = result["observations"]["lifecycle"]
    assert told["adapters"] == {"count": 3, "bytes_each": [adapter_bytes] * 3, "expected_bytes": adapter_bytes}
    assert told["unload"] == {"lora_modules_left": 0, "bytes_over_base": 0}
    assert told["delete"] == {"adapters_left": 3, "bytes_back": adapter_bytes}
    assert told.keys() == {"adapters", "unload", "delete"}


@pytest.mark.parametrize("architecture", ["opt", "gpt2", "t5", "bert"])
def test_every_architectures_life_is_predicted(make_case: Callable[..., Case], architecture: str) -> None:
    assert tuple(predicted(make_case(architecture))["memory"]["phases"]) == LIVED


def test_a_life_with_one_adapter_at_most_is_predicted(make_case: Callable[..., Case]) -> None:
    result = predicted(make_case("opt", adapter=Adapter(bias="all")))
    # PEFT refuses a second while it is loaded.
    assert [name for name in LIVED if name not in result["memory"]["phases"]] == ["switch", "delete"]
    told = result["observations"]["lifecycle"]
    assert told["adapters"] == told["delete"]
    assert "only 1 adapter with bias" in told["adapters"]["refused"]


@pytest.mark.parametrize("padding", [0.0, 0.5])
def test_a_predicted_life_knows_whether_its_masks_mask_anything(
    make_case: Callable[..., Case], monkeypatch: pytest.MonkeyPatch, padding: float
) -> None:
    told = []
    forward = LlamaForCausalLM.forward

    def asking(*args: Any, **options: Any) -> Any:
        told.append(is_padded())
        return forward(*args, **options)

    monkeypatch.setattr(LlamaForCausalLM, "forward", asking)
    predicted(make_case(padding=padding))
    # Two training steps; with the adapter, without it, and the bare model in the end.
    assert told == [padding > 0] * 5
