"""What the models of one architecture have in common: the names of their layers, their tasks, their positions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lorabench.case import TaskType


@dataclass(frozen=True)
class Family:
    """What the models of one transformers ``model_type`` have in common.

    ``query_value`` are PEFT's default LoRA targets, ``linear_layers`` the linear layers that ``all-linear`` covers, and
    ``other_targets`` the embeddings and heads that can be targeted by name. ``learned_positions`` is the configuration
    key that limits the sequence, None where positions are computed. The first of ``task_types`` is the default.
    """

    query_value: tuple[str, ...]
    linear_layers: tuple[str, ...]
    other_targets: tuple[str, ...]
    task_types: tuple[TaskType, ...]
    learned_positions: str | None = None


_DECODER_TASKS: tuple[TaskType, ...] = ("CAUSAL_LM", "SEQ_CLS", "TOKEN_CLS", "FEATURE_EXTRACTION")
_LLAMA = Family(
    query_value=("q_proj", "v_proj"),
    linear_layers=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    other_targets=("embed_tokens", "lm_head"),
    task_types=_DECODER_TASKS,
)

FAMILIES: Mapping[str, Family] = {
    "llama": _LLAMA,
    "qwen2": _LLAMA,
    "mistral": _LLAMA,
    "opt": Family(
        query_value=("q_proj", "v_proj"),
        linear_layers=("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"),
        other_targets=("embed_tokens", "embed_positions", "lm_head"),
        task_types=("CAUSAL_LM", "SEQ_CLS", "FEATURE_EXTRACTION"),
        learned_positions="max_position_embeddings",
    ),
    "gpt2": Family(
        query_value=("c_attn",),
        linear_layers=("c_attn", "c_proj", "c_fc"),
        other_targets=("wte", "wpe", "lm_head"),
        task_types=_DECODER_TASKS,
        learned_positions="n_positions",
    ),
    "t5": Family(
        query_value=("q", "v"),
        linear_layers=("q", "k", "v", "o", "wi", "wo"),
        other_targets=("shared", "embed_tokens", "relative_attention_bias", "lm_head"),
        task_types=("SEQ_2_SEQ_LM", "SEQ_CLS", "TOKEN_CLS", "FEATURE_EXTRACTION"),
    ),
    "bert": Family(
        query_value=("query", "value"),
        linear_layers=("query", "key", "value", "dense"),
        other_targets=("word_embeddings", "position_embeddings", "token_type_embeddings", "classifier"),
        task_types=("SEQ_CLS", "TOKEN_CLS", "FEATURE_EXTRACTION"),
        learned_positions="max_position_embeddings",
    ),
}
