"""Which attention kernel is chosen, against what select_sdp_backend says of each case."""

from __future__ import annotations

import pytest
import torch

from lorabench.device.attention_path import AttentionCall, choose_kernel

HOPPER, AMPERE, TURING = (9, 0), (8, 0), (7, 5)
BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32


def call(
    dtype: torch.dtype,
    *,
    heads: tuple[int, int] = (8, 8),
    size: int = 64,
    masked: bool = False,
    dropout: float = 0.0,
    keys: int = 128,
) -> AttentionCall:
    query = torch.empty(2, heads[0], 128, size, dtype=dtype, device="meta")
    key = torch.empty(2, heads[1], keys, size, dtype=dtype, device="meta")
    mask = torch.empty(2, 1, 128, keys, dtype=torch.bool, device="meta") if masked else None
    return AttentionCall(query, key, key, mask, dropout, False, heads[0] != heads[1])


@pytest.mark.parametrize(
    ("made", "capability", "kernel"),
    [
        (call(BF16), HOPPER, "cudnn"),
        (call(BF16, heads=(8, 2)), HOPPER, "cudnn"),
        (call(BF16, masked=True), HOPPER, "cudnn"),
        # Its dropout goes in steps of a sixteenth.
        (call(BF16, dropout=0.125), HOPPER, "cudnn"),
        (call(BF16, dropout=0.1), HOPPER, "flash"),
        (call(BF16, dropout=0.1, masked=True), HOPPER, "efficient"),
        (call(BF16, size=256), HOPPER, "flash"),
        (call(BF16, keys=1), HOPPER, "flash"),
        (call(FP32), HOPPER, "efficient"),
        (call(FP32, masked=True), HOPPER, "efficient"),
        (call(FP32, heads=(8, 2)), HOPPER, "math"),
        (call(FP32, size=66), HOPPER, "math"),
        (call(BF16), AMPERE, "flash"),
        (call(BF16, masked=True), AMPERE, "efficient"),
        (call(FP16), TURING, "efficient"),
        (call(BF16), TURING, "math"),
    ],
)
def test_the_kernel_is_the_first_that_takes_the_call(
    made: AttentionCall, capability: tuple[int, int], kernel: str
) -> None:
    assert choose_kernel(made, capability) == kernel
