"""The inference workload against generate() and against the bare model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from in_process import GPT2, LLAMA, NO_PHASES, OPT, T5, built, measure, record, write_config
from peft.tuners.lora import LoraLayer
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import GenerationConfig

from lorabench.case import Adapter, Case, Measure
from lorabench.environment import Environment

MODELS: dict[str, tuple[dict[str, Any], Adapter]] = {
    "llama": (LLAMA, Adapter()),
    "opt": (OPT, Adapter()),
    "gpt2": (GPT2, Adapter(target_modules=("c_attn",))),
    "t5": (T5, Adapter(target_modules=("q", "v"), task_type="SEQ_2_SEQ_LM")),
}
DECODERS = ("llama", "opt", "gpt2")
NEW_TOKENS = 6


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("models")
    return {name: write_config(root / name, name, config) for name, (config, _) in MODELS.items()}


@pytest.fixture
def make_case(folders: dict[str, str]) -> Any:
    def make(architecture: str = "llama", **settings: Any) -> Case:
        defaults: dict[str, Any] = {
            "quantization": "fp32",
            "adapter": MODELS[architecture][1],
            "batch_size": 2,
            "sequence_length": 16,
            "new_tokens": NEW_TOKENS,
            "measure": Measure(warmup=1, steps=3),
        }
        return Case(**{"scenario": "s", "task": "infer", "model": folders[architecture], **defaults, **settings})

    return make


@contextmanager
def embedded(model: Any) -> Iterator[list[torch.Tensor]]:
    """The ids of every call of the decoder's input embedding."""
    seen: list[torch.Tensor] = []
    embedding = model.get_base_model().get_decoder().get_input_embeddings()
    hook = embedding.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    yield seen
    hook.remove()


@pytest.mark.parametrize("padding", [0.0, 0.5])
@pytest.mark.parametrize("architecture", MODELS)
@torch.no_grad()
def test_the_tokens_are_those_that_generate_chooses(make_case: Any, architecture: str, padding: float) -> None:
    workload = built(make_case(architecture, padding=padding))
    with embedded(workload.model) as seen:
        workload.step(NO_PHASES)
    decoded = torch.cat([ids for ids in seen if ids.shape[1] == 1][-NEW_TOKENS:], dim=1)
    settings = GenerationConfig(
        max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0, eos_token_id=None, decoder_start_token_id=0
    )
    prompt = {"input_ids": workload._ids, "attention_mask": workload._mask}
    generated = workload.model.generate(**prompt, generation_config=settings)
    assert torch.equal(decoded, generated[:, -NEW_TOKENS:])


@pytest.mark.parametrize("architecture", DECODERS)
@torch.no_grad()
def test_left_padding_leaves_the_logits_of_the_prompt_alone(make_case: Any, architecture: str) -> None:
    workload = built(make_case(architecture, padding=0.5))
    alone = workload.model(input_ids=workload._ids[:, 8:]).logits[:, -1]
    torch.testing.assert_close(workload.logits(), alone, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_arms_stand_on_the_same_base_weights(make_case: Any) -> None:
    base, unmerged, merged = (built(make_case(adapter_state=state)).model for state in ("base", "unmerged", "merged"))
    plain = dict(base.named_parameters())
    beneath = {
        name.removeprefix("base_model.model.").replace(".base_layer", ""): weight
        for name, weight in unmerged.named_parameters()
        if "lora_" not in name
    }
    assert beneath.keys() == plain.keys()
    assert all(torch.equal(beneath[name], plain[name]) for name in plain)
    folded = dict(merged.named_parameters())
    adapted = {
        f"{name.removeprefix('base_model.model.')}.weight": layer.scaling["default"]
        * layer.lora_B["default"].weight
        @ layer.lora_A["default"].weight
        for name, layer in unmerged.named_modules()
        if isinstance(layer, LoraLayer)
    }
    assert adapted
    for name, weight in plain.items():
        torch.testing.assert_close(folded[name], weight + adapted.get(name, 0.0))


@pytest.mark.parametrize("architecture", MODELS)
def test_merged_answers_like_unmerged_and_base_does_not(make_case: Any, architecture: str) -> None:
    arms = [make_case(architecture, adapter_state=state, group="g") for state in ("base", "unmerged", "merged")]
    results = measure(*arms, mode="timing")
    assert [result["status"] for result in results] == ["ok"] * 3, results[0]["error"]
    base, unmerged, merged = (result["observations"]["output_difference"] for result in results)
    assert 0 < merged["unmerged"]["relative"] < 1e-4
    assert unmerged["base"]["relative"] > 1e-3
    assert base.keys() == {"unmerged", "merged"}
    assert [sorted(result["latency"]) for result in results] == [["decode", "prefill"]] * 3


def test_memory_holds_the_prompt_and_the_cache(make_case: Any) -> None:
    case = make_case()
    [result] = measure(case)
    memory = result["memory"]
    assert set(memory["phases"]) == {"load", "attach", "prefill", "decode"}
    prefill, decode = memory["phases"]["prefill"], memory["phases"]["decode"]
    ids_bytes = case.batch_size * case.sequence_length * 8
    assert prefill["before_bytes"] == memory["static_bytes"] + ids_bytes
    # Keys and values of two layers with two heads of 8 in fp32, and one row of logits.
    cache_bytes = 2 * 2 * case.batch_size * case.sequence_length * 2 * 8 * 4
    logits_bytes = case.batch_size * 256 * 4
    assert prefill["after_bytes"] == prefill["before_bytes"] + cache_bytes + logits_bytes
    assert decode["before_bytes"] == prefill["after_bytes"]
    longer_bytes = 2 * 2 * case.batch_size * NEW_TOKENS * 2 * 8 * 4
    assert decode["after_bytes"] >= decode["before_bytes"] + longer_bytes
    assert memory["peak_allocated_bytes"] == max(prefill["peak_bytes"], decode["peak_bytes"])
    assert memory["dynamic_bytes"] == memory["peak_allocated_bytes"] - memory["static_bytes"]


@pytest.mark.parametrize("state", ["base", "unmerged", "merged"])
def test_static_memory_is_that_of_the_model_as_it_is_served(make_case: Any, state: Any) -> None:
    case = make_case(adapter_state=state)
    [result] = measure(case)
    tensors = [*built(case).model.parameters(), *built(case).model.buffers()]
    assert result["memory"]["static_bytes"] == sum(tensor.numel() * tensor.itemsize for tensor in tensors)


def test_decode_is_quoted_for_a_token_and_its_rate_for_all_sequences(make_case: Any, environment: Environment) -> None:
    workload = built(make_case())
    latency = workload.latency({"prefill": [0.5], "decode": [0.6], "step": [1.1]})
    assert latency == {"prefill": [0.5], "decode": [pytest.approx(0.1)]}
    with workload.shortened():
        assert workload.latency({"prefill": [0.5], "decode": [0.6], "step": [1.1]})["decode"] == [pytest.approx(0.15)]
    measured = record(make_case(), environment)
    assert measured.tokens_per_s == pytest.approx(2 / measured.latency["decode"].median_s)


def test_an_encoder_has_a_prefill_alone(tmp_path: Path, make_case: Any, environment: Environment) -> None:
    config = {**{name: LLAMA[name] for name in LLAMA if name != "num_key_value_heads"}, "max_position_embeddings": 64}
    model = write_config(tmp_path, "bert", config)
    adapter = Adapter(target_modules=("query", "value"), task_type="SEQ_CLS")
    measured = record(replace(make_case(), model=model, adapter=adapter), environment)
    assert measured.status == "ok", measured.error
    assert set(measured.latency) == {"prefill"}
    assert measured.tokens_per_s == pytest.approx(2 * 16 / measured.latency["prefill"].median_s)


class Products(TorchDispatchMode):
    """The matrix products of which one factor has the vocabulary."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(isinstance(one, torch.Tensor) and LLAMA["vocab_size"] in one.shape for one in args):
            self.seen.append(func.overloadpacket._qualified_op_name.removeprefix("aten::"))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("state", "frozen", "product"), [("base", False, "mm"), ("base", True, "bmm"), ("merged", False, "bmm")]
)
@torch.no_grad()
def test_a_frozen_head_is_read_once_for_each_sequence_of_a_prefill(
    make_case: Any, state: str, frozen: bool, product: str
) -> None:
    """What the card of the claim merged-adds-none names as its cause; only the weight's flag differs."""
    workload = built(make_case(adapter_state=state))
    if frozen:
        workload.model.requires_grad_(False)
    with Products() as products:
        workload.step(NO_PHASES)
    prefill, *decode = [name for name in products.seen if name in ("mm", "bmm")]
    assert prefill == product
    # The last positions of a decode step have no gaps between them.
    assert decode == ["mm"] * NEW_TOKENS
