"""What stops a search when memory does not, from the architectures' own numbers."""

from __future__ import annotations

import pytest

from lorabench.case import Adapter, Case
from lorabench.fitting.limits import LARGEST_BATCH, LARGEST_LENGTH, LARGEST_RANK, batch_limit, length_limit, rank_limit


def case(model: str, **settings: object) -> Case:
    return Case(scenario="s", **{"task": "train", "model": model, **settings})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "limit"),
    [("llama-2-7b", 4096), ("llama-3.2-1b", 131_072), ("gpt2", 1024), ("opt-125m", 2048), ("t5-small", LARGEST_LENGTH)],
)
def test_the_longest_sequence_is_the_model_s(model: str, limit: int) -> None:
    assert length_limit(case(model)).value == limit


def test_inference_needs_room_for_new_tokens() -> None:
    limit = length_limit(case("gpt2", task="infer", new_tokens=24))
    assert limit.value == 1000
    assert "24 new tokens" in limit.reason


def test_a_hub_model_is_not_known_here() -> None:
    assert length_limit(case("owner/name")).value == LARGEST_LENGTH
    assert rank_limit(case("owner/name")).value == LARGEST_RANK
    assert batch_limit(case("owner/name")).value == LARGEST_BATCH == 65_536


@pytest.mark.parametrize(
    ("model", "targets", "limit"),
    [
        ("llama-2-7b", ("q_proj", "v_proj"), 4096),
        # 8 key and value heads of 64.
        ("llama-3.2-1b", ("q_proj", "v_proj"), 512),
        ("llama-3.2-1b", ("q_proj", "o_proj"), 2048),
        ("llama-3.2-1b", "all-linear", 512),
        # 2 key and value heads of 896 / 14.
        ("qwen2.5-0.5b", ("k_proj",), 128),
        ("gpt2", ("c_attn",), 768),
        ("t5-small", ("q", "v"), 512),
    ],
)
def test_the_highest_rank_is_the_smallest_dimension(model: str, targets: object, limit: int) -> None:
    adapter = Adapter(target_modules=targets)  # type: ignore[arg-type]
    assert rank_limit(case(model, adapter=adapter)).value == limit
