"""Which attention kernel a prediction takes is the one that torch takes on this GPU."""

from __future__ import annotations

import itertools

import pytest
import torch
from machine import in_own_process
from torch.nn.attention import SDPBackend

from lorabench.device.attention_path import AttentionCall, choose_kernel

pytestmark = pytest.mark.gpu

NAMES = {
    SDPBackend.MATH: "math",
    SDPBackend.FLASH_ATTENTION: "flash",
    SDPBackend.EFFICIENT_ATTENTION: "efficient",
    SDPBackend.CUDNN_ATTENTION: "cudnn",
}
QUERIES = 64
MASKS = ("none", "causal", "boolean", "row", "bias", "permuted", "trained")


def mask_of(kind: str, dtype: torch.dtype, keys: int) -> torch.Tensor | None:
    if kind in ("none", "causal"):
        return None
    if kind == "boolean":
        return torch.ones(2, 1, QUERIES, keys, dtype=torch.bool, device="cuda")
    if kind == "row":
        return torch.ones(2, 1, 1, keys, dtype=torch.bool, device="cuda").expand(2, 1, QUERIES, keys)
    if kind == "permuted":
        return torch.zeros(QUERIES, keys, 8, dtype=dtype, device="cuda").permute(2, 0, 1).unsqueeze(0)
    return torch.zeros(1, 8, QUERIES, keys, dtype=dtype, device="cuda", requires_grad=kind == "trained")


def wrong_choices() -> list[tuple[object, ...]]:
    capability = torch.cuda.get_device_capability()
    wrong: list[tuple[object, ...]] = []
    for dtype, size, kind, dropout, key_heads, keys, trains in itertools.product(
        (torch.bfloat16, torch.float16, torch.float32),
        (64, 66, 128, 256),
        MASKS,
        (0.0, 0.1),
        (8, 2),
        (1, 64),
        (True, False),
    ):
        query = torch.zeros(2, 8, QUERIES, size, dtype=dtype, device="cuda", requires_grad=trains)
        key = torch.zeros(2, key_heads, keys, size, dtype=dtype, device="cuda", requires_grad=trains)
        is_causal, grouped = kind == "causal", key_heads != 8
        mask = mask_of(kind, dtype, keys)
        chosen = torch._fused_sdp_choice(query, key, key, mask, dropout, is_causal, enable_gqa=grouped)
        predicted = choose_kernel(AttentionCall(query, key, key, mask, dropout, is_causal, grouped), capability)
        if predicted != NAMES[SDPBackend(chosen)]:
            wrong.append((str(dtype), size, kind, dropout, key_heads, keys, trains, predicted, SDPBackend(chosen).name))
    return wrong


def test_the_choice_is_torchs() -> None:
    assert in_own_process(wrong_choices) == [], f"cuDNN {torch.backends.cudnn.version()}"
