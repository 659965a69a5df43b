"""What training is observed to change and to leave alone."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, OPTConfig, OPTForCausalLM

from lorabench.workload import training_facts
from lorabench.workload.training_facts import (
    CacheWatch,
    base_tensors,
    digests,
    trainable_by_kind,
    update_norm,
)

MASK = 2**64 - 1
LLAMA = LlamaConfig(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    pad_token_id=0,
)
OPT = OPTConfig(
    vocab_size=64,
    hidden_size=32,
    word_embed_proj_dim=32,
    ffn_dim=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=32,
)


def adapted(model: Any = None, **settings: Any) -> PeftModel:
    defaults = {"r": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
    model = get_peft_model(model or LlamaForCausalLM(LLAMA), LoraConfig(**{**defaults, **settings}))
    return model.train()


def by_hand(data: bytes, chunk_words: int) -> int:
    """The digest in Python's integers, signed like a tensor's."""
    total = 0
    for start in range(0, len(data), 8 * chunk_words):
        chunk = data[start : start + 8 * chunk_words]
        mixed = 0
        for position in range(0, len(chunk), 8):
            word = int.from_bytes(chunk[position : position + 8], "little")
            word ^= position // 8 * 0x9E3779B97F4A7C15 & MASK
            for multiplier, shift in ((0xBF58476D1CE4E5B9, 32), (0x94D049BB133111EB, 29)):
                word = word * multiplier & MASK
                # The shift keeps the sign.
                signed = word - 2**64 if word >> 63 else word
                word ^= signed >> shift & MASK
            mixed += word
        total = total * 0x9E3779B97F4A7C15 + mixed & MASK
    return total - 2**64 if total >> 63 else total


@given(st.binary(min_size=1, max_size=100), st.integers(1, 5))
def test_the_digest_by_hand(data: bytes, chunk_words: int) -> None:
    tensor = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_facts, "_CHUNK_WORDS", chunk_words)
        assert digests({"t": tensor}) == {"t": by_hand(data, chunk_words)}


@given(st.binary(min_size=1, max_size=200), st.data())
def test_one_bit_changes_the_digest(data: bytes, draw: Any) -> None:
    place = draw.draw(st.integers(0, len(data) - 1))
    changed = bytearray(data)
    changed[place] ^= 1 << draw.draw(st.integers(0, 7))
    one, other = (torch.frombuffer(bytearray(content), dtype=torch.uint8) for content in (data, changed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_facts, "_CHUNK_WORDS", 4)
        assert digests({"t": one}) != digests({"t": other})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int8, torch.uint8])
def test_a_digest_is_of_values_in_their_order_whatever_the_layout(dtype: torch.dtype) -> None:
    values = (torch.arange(35) - 17).view(5, 7).to(dtype)
    known = digests({"t": values})
    assert digests({"t": values.T.contiguous().T}) == known
    assert digests({"t": torch.cat([values.new_zeros(1, 7), values])[1:]}) == known
    assert digests({"t": values.flip(0)}) != known
    assert digests({"t": values.roll(1)}) != known


def test_digests_of_nothing() -> None:
    assert digests({}) == {}


@pytest.mark.parametrize(("bias", "biases"), [("none", 0), ("lora_only", 2 * 2 * 32), ("all", None)])
def test_kinds_of_trained_parameters(bias: str, biases: int | None) -> None:
    base = OPTForCausalLM(OPT)
    if biases is None:
        biases = sum(weight.numel() for name, weight in base.named_parameters() if name.endswith(".bias"))
    model = adapted(base, bias=bias)
    assert trainable_by_kind(model) == {"lora": 2 * 2 * 4 * 64, "bias": biases, "head": 0, "other": 0}


def test_a_head_is_counted_apart() -> None:
    model = adapted(LlamaForSequenceClassification(LLAMA), task_type="SEQ_CLS")
    assert trainable_by_kind(model)["head"] == 2 * 32


def test_without_an_adapter_all_is_other() -> None:
    model = OPTForCausalLM(OPT)
    total = sum(weight.numel() for weight in model.parameters())
    assert trainable_by_kind(model) == {"lora": 0, "bias": 0, "head": 0, "other": total}


def test_the_base_is_all_that_an_adapter_leaves_alone() -> None:
    base = OPTForCausalLM(OPT)
    names = {name for name, _ in base.named_parameters()}
    model = adapted(base, bias="all")
    found = {name.removeprefix("base_model.model.").replace(".base_layer", "") for name in base_tensors(model)}
    assert found == {name for name in names if not name.endswith(".bias")}


def test_a_base_weight_that_is_trained_is_seen_to_change() -> None:
    model = adapted()
    before = digests(base_tensors(model))
    weight = model.base_model.model.model.norm.weight
    # Frozen or not: nothing in an adapter's settings says that it may.
    weight.requires_grad = True
    weight.data[3] += 1e-3
    after = digests(base_tensors(model))
    assert [name for name in before if before[name] != after[name]] == ["base_model.model.model.norm.weight"]
    assert trainable_by_kind(model)["other"] == 32


def test_the_adapters_own_weights_do_not_count_as_the_bases() -> None:
    model = adapted()
    before = digests(base_tensors(model))
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data += 1.0
    assert digests(base_tensors(model)) == before


def randomized(model: PeftModel) -> PeftModel:
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data.copy_(torch.randn(weight.shape, generator=generator))
    return model


@pytest.mark.parametrize(
    "settings",
    [{"lora_alpha": 16}, {"lora_alpha": 3, "use_rslora": True}, {"target_modules": ["embed_tokens", "down_proj"]}],
    ids=str,
)
def test_the_norm_of_the_update_is_that_of_what_merging_adds(settings: dict[str, Any]) -> None:
    model = randomized(adapted(**settings))
    before = {name: weight.detach().double() for name, weight in model.get_base_model().named_parameters()}
    merged = model.merge_and_unload()
    added = [
        (weight.detach().double() - before[name if name in before else _base(name)]).square().sum()
        for name, weight in merged.named_parameters()
    ]
    model = randomized(adapted(**settings))
    assert update_norm(model) == pytest.approx(float(torch.stack(added).sum().sqrt()), rel=1e-4)


def _base(name: str) -> str:
    owner, _, attribute = name.rpartition(".")
    return f"{owner}.base_layer.{attribute}"


def test_a_fresh_adapter_has_no_norm_and_a_diverged_one_none_that_is_a_number() -> None:
    model = adapted()
    assert update_norm(model) == 0.0
    next(weight for name, weight in model.named_parameters() if "lora_B" in name).data[0] = torch.nan
    assert update_norm(model) is None
    assert update_norm(OPTForCausalLM(OPT)) is None


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("use_cache", [False, True])
def test_the_cache_is_watched_once_and_leaves_nothing_behind(use_cache: bool, checkpointing: bool) -> None:
    model = adapted()
    model.config.use_cache = use_cache
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    transformers_logger = logging.getLogger("transformers")
    before = transformers_logger.level, list(transformers_logger.handlers), transformers_logger.propagate
    ids = torch.ones(1, 4, dtype=torch.long)
    for _ in range(2):
        # Another case of the process may have been warned before.
        watch = CacheWatch(model)
        model(input_ids=ids, labels=ids)
        assert watch.returned == (use_cache and not checkpointing)
        assert len(watch.warnings) == (use_cache and checkpointing)
        assert all("use_cache=True" in line and "\n" not in line for line in watch.warnings)
    assert not model._forward_hooks
    assert not model._forward_pre_hooks
    assert (transformers_logger.level, transformers_logger.handlers, transformers_logger.propagate) == before


def test_a_forward_pass_that_fails_gives_the_log_back() -> None:
    model = adapted()
    handlers = list(logging.getLogger("transformers").handlers)
    watch = CacheWatch(model)
    with pytest.raises(IndexError):
        model(input_ids=torch.full((1, 4), 1000))
    assert not watch.returned
    assert logging.getLogger("transformers").handlers == handlers
    assert not model._forward_hooks
