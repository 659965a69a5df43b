"""How far a search goes on each axis, and what stops it there when memory does not.

Torch-free: a model from the hub, whose configuration is not at hand here, gets the widest limits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lorabench.case import Case
from lorabench.catalog import describe

LARGEST_BATCH = 65_536
LARGEST_LENGTH = 1 << 20
"""Where a model says of no longest sequence."""
LARGEST_RANK = 65_536
"""Where nothing is known of a model's layers."""

# Under the names of transformers' configurations; T5 computes positions from distances and has no limit.
_POSITIONS = ("max_position_embeddings", "n_positions")
_WIDTHS = ("hidden_size", "n_embd", "d_model", "intermediate_size", "ffn_dim", "d_ff", "n_inner", "word_embed_proj_dim")
_KEY_VALUE_LAYERS = frozenset({"k_proj", "v_proj", "k", "v"})


@dataclass(frozen=True)
class Limit:
    """The largest value that is tried, and why no larger one is."""

    value: int
    reason: str


def batch_limit(case: Case) -> Limit:
    return Limit(LARGEST_BATCH, f"no batch above {LARGEST_BATCH:,} is tried")


def length_limit(case: Case) -> Limit:
    """The model's longest sequence, less what inference adds to it."""
    config = _config(case)
    added = case.new_tokens if case.task == "infer" else 0
    for key in _POSITIONS:
        positions = config.get(key)
        # T5's n_positions is a leftover that its attention does not read.
        if isinstance(positions, int) and positions > added and "relative_attention_num_buckets" not in config:
            less = f" less {added:,} new tokens" if added else ""
            return Limit(positions - added, f"the model's {key} is {positions:,}{less}")
    return Limit(LARGEST_LENGTH, f"no length above {LARGEST_LENGTH:,} is tried, and the model names no limit")


def rank_limit(case: Case) -> Limit:
    """The smallest dimension of the adapted layers: a higher rank adds parameters and nothing that they could learn."""
    widths = _widths(_config(case), case)
    if not widths:
        return Limit(LARGEST_RANK, f"no rank above {LARGEST_RANK:,} is tried, and the layers are not known")
    return Limit(min(widths), f"the smallest dimension of a layer is {min(widths):,}")


def _config(case: Case) -> Mapping[str, Any]:
    return describe(case.model).config or {}


def _widths(config: Mapping[str, Any], case: Case) -> list[int]:
    widths = [value for key in _WIDTHS if isinstance(value := config.get(key), int)]
    heads, width = config.get("num_attention_heads"), config.get("hidden_size")
    key_value_heads = config.get("num_key_value_heads")
    assert case.adapter is not None, "there is no rank without an adapter"
    targets = case.adapter.target_modules
    adapted = not isinstance(targets, str) and {target.rpartition(".")[2] for target in targets}
    if heads and width and key_value_heads and (not adapted or adapted & _KEY_VALUE_LAYERS):
        widths.append(key_value_heads * (config.get("head_dim") or width // heads))
    if config.get("d_kv") and config.get("num_heads"):
        widths.append(config["d_kv"] * config["num_heads"])
    return widths
