"""Which attention kernel is chosen, against what select_sdp_backend says of each case."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lorabench.catalog import CARDS
from lorabench.device.attention_path import AttentionCall, choose_kernel
from lorabench.device.fake import FakeDevice

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
    bias: torch.Tensor | None = None,
) -> AttentionCall:
    query = torch.empty(2, heads[0], 128, size, dtype=dtype, device="meta")
    key = torch.empty(2, heads[1], keys, size, dtype=dtype, device="meta")
    mask = torch.empty(2, 1, 128, keys, dtype=torch.bool, device="meta") if masked else bias
    return AttentionCall(query, key, key, mask, dropout, False, heads[0] != heads[1])


def position_bias(dtype: torch.dtype, *, permuted: bool) -> torch.Tensor:
    """As T5 makes it: looked up as [query, key, heads] and seen as [1, heads, query, key]."""
    found = torch.empty(128, 128, 8, dtype=dtype, device="meta").permute(2, 0, 1).unsqueeze(0)
    return found if permuted else found.contiguous()


@pytest.mark.parametrize(
    ("made", "capability", "kernel"),
    [
        (call(BF16), HOPPER, "cudnn"),
        (call(BF16, heads=(8, 2)), HOPPER, "cudnn"),
        (call(BF16, masked=True), HOPPER, "cudnn"),
        (call(BF16, dropout=0.1), HOPPER, "cudnn"),
        (call(BF16, dropout=0.1, masked=True), HOPPER, "cudnn"),
        (call(BF16, size=256), HOPPER, "cudnn"),
        (call(BF16, size=256), (10, 0), "flash"),
        (call(BF16, size=256), AMPERE, "flash"),
        (call(BF16, keys=1), HOPPER, "flash"),
        (call(BF16, bias=position_bias(BF16, permuted=False)), HOPPER, "cudnn"),
        # Measured on an H100: T5's self-attention is made of plain products, its cross-attention is not.
        (call(BF16, bias=position_bias(BF16, permuted=True)), HOPPER, "math"),
        (call(FP32, bias=position_bias(FP32, permuted=True)), HOPPER, "math"),
        (call(BF16, bias=position_bias(BF16, permuted=True)), AMPERE, "math"),
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


def test_half_precision_without_a_fused_kernel_converts_its_weights_before_the_product(
    blocks_asked_by: Callable[[Callable[[], object]], list[int]],
) -> None:
    with FakeDevice().session():
        query = torch.empty(1, 4, 256, 66, dtype=BF16)
        mask = torch.empty(1, 1, 256, 256, dtype=BF16).transpose(2, 3)
        asked = blocks_asked_by(lambda: torch.nn.functional.scaled_dot_product_attention(query, query, query, mask))
    scores, product = 4 * 256 * 256, 4 * 256 * 66
    assert asked[-3:] == [scores * 2, product * 4, product * 2]
    assert asked.count(scores * 4) == 2, "the scores and their softmax: rows that are masked whole are set in place"


@pytest.mark.parametrize(
    ("card", "size", "workspace"),
    [
        # Tiles of 64 queries by 64 columns, each with 16 bytes beside it, for each of the 4 heads.
        ("T4", 64, 4 * 2 * (64 * 64 * 4 + 16)),
        # The smaller of two kernels stages keys' and values' gradients, too, and takes more.
        ("T4", 128, 4 * 4 * (4 * (64 * 64 + 4) + 2 * 64 * (128 + 128))),
        ("V100-32", 64, 4 * 2 * (64 * 64 * 4 + 16)),
        ("V100-32", 128, 4 * 4 * (4 * (64 * 64 + 4) + 2 * 64 * (128 + 128))),
    ],
)
def test_before_ampere_the_larger_kernel_of_efficient_attention_is_counted(
    blocks_asked_by: Callable[[Callable[[], object]], list[int]], card: str, size: int, workspace: int
) -> None:
    with FakeDevice(CARDS[card]).session():
        query = torch.empty(1, 4, 128, size, dtype=FP16, requires_grad=True)
        attended = torch.nn.functional.scaled_dot_product_attention(query, query, query, is_causal=True)
        asked = blocks_asked_by(attended.sum().backward)
    rows = 4 * 128 * 4
    assert workspace in asked
    # On a V100 the row sums of large heads are those of a product of two copies in fp32.
    assert (3 * [rows * size] == [nbytes for nbytes in asked if nbytes == rows * size]) is (
        card == "V100-32" and size == 128
    )
