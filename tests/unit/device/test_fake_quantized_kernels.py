"""bitsandbytes on fake tensors: outputs as its own kernels make them, and the memory of those for CUDA."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import bitsandbytes
import pytest
import torch
from bitsandbytes import functional
from bitsandbytes.nn import Int8Params, Linear4bit, Linear8bitLt, Params4bit
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from lorabench.catalog import CARDS
from lorabench.device.allocator import MIB
from lorabench.device.fake import FakeDevice
from lorabench.device.fake_quantized.gemm_4bit import takes_custom_kernel
from lorabench.device.fake_quantized.outliers import given_outlier_share, set_outlier_share
from lorabench.device.predicted_card import predicting_for
from lorabench.errors import DeviceError

OPS = torch.ops.bitsandbytes
KIB = 1024


@pytest.fixture
def fake() -> Iterator[FakeDevice]:
    device = FakeDevice()
    with device.session():
        yield device


def int8_layer(threshold: float, ingoing: int = 1024, outgoing: int = 2048) -> Linear8bitLt:
    layer = Linear8bitLt(ingoing, outgoing, bias=False, has_fp16_weights=False, threshold=threshold)
    half = torch.empty(outgoing, ingoing, dtype=torch.float16)
    layer.weight = Int8Params(half, requires_grad=False, has_fp16_weights=False)._quantize(half.device)
    return layer


def calls() -> dict[str, Callable[[], Any]]:
    """Each operator on small inputs: real outside of a session, fake inside."""

    def rows() -> torch.Tensor:
        return torch.ones(6, 128, dtype=torch.float16)

    def weight() -> torch.Tensor:
        return torch.ones(32, 128, dtype=torch.int8)

    def product() -> torch.Tensor:
        return torch.ones(6, 32, dtype=torch.int32)

    def packed() -> tuple[torch.Tensor, torch.Tensor]:
        return torch.ones(32 * 64, 1, dtype=torch.uint8), torch.ones(64)

    def code() -> torch.Tensor:
        return torch.arange(256).float()

    half, block = torch.float16, 64
    return {
        "int8_vectorwise_quant": lambda: OPS.int8_vectorwise_quant(rows(), 0.0),
        "int8_linear_matmul": lambda: OPS.int8_linear_matmul(rows().to(torch.int8), weight()),
        "int8_mm_dequant": lambda: OPS.int8_mm_dequant(product(), torch.ones(6), torch.ones(32), dtype=torch.bfloat16),
        "int8_scaled_mm": lambda: OPS.int8_scaled_mm(
            rows().to(torch.int8), weight(), torch.ones(6), torch.ones(32), dtype=torch.bfloat16
        ),
        "int8_vectorwise_dequant": lambda: OPS.int8_vectorwise_dequant(weight(), torch.ones(32)),
        "quantize_blockwise": lambda: OPS.quantize_blockwise(torch.ones(1000), code(), 256),
        "dequantize_blockwise": lambda: OPS.dequantize_blockwise(
            torch.ones(1000, dtype=torch.uint8), torch.ones(4), code(), 256, torch.float32
        ),
        "quantize_4bit": lambda: OPS.quantize_4bit(torch.ones(32, 128), block, "nf4", torch.uint8),
        "dequantize_4bit": lambda: OPS.dequantize_4bit(*packed(), block, "nf4", [32, 128], half),
        "gemm_4bit": lambda: OPS.gemm_4bit(rows(), packed()[0], [32, 128], packed()[1], block, "nf4"),
    }


@pytest.mark.parametrize("name", calls())
def test_outputs_are_those_of_the_librarys_own_kernel(name: str) -> None:
    def described(output: Any) -> list[Any]:
        outputs = output if isinstance(output, tuple) else (output,)
        return [None if one is None else (one.shape, one.stride(), one.dtype) for one in outputs]

    real = described(calls()[name]())
    with FakeDevice().session():
        assert described(calls()[name]()) == real


def test_an_int8_product_holds_32_bits_then_16_and_16_more_for_bf16(fake: FakeDevice) -> None:
    layer = int8_layer(threshold=0.0)
    rows = torch.empty(1024, 1024, dtype=torch.bfloat16)
    before = fake.allocated_bytes()
    fake.reset_peak()
    with torch.no_grad():
        out = layer(rows)
    assert fake.allocated_bytes() - before == out.numel() * 2
    # The input in int8 with its rows' scales, and [1024, 2048] in int32, fp16 and bf16.
    assert fake.peak_allocated_bytes() - before == 1 * MIB + 4 * KIB + (4 + 2 + 2) * 2 * MIB


def test_training_keeps_an_int8_layers_input_and_dequantizes_its_weight_in_backward(fake: FakeDevice) -> None:
    layer = int8_layer(threshold=0.0)
    rows = torch.empty(1024, 1024, dtype=torch.bfloat16, requires_grad=True)
    out = layer(rows)
    gradient = torch.empty_like(out)
    before = fake.allocated_bytes()
    fake.reset_peak()
    out.backward(gradient)
    workspace = 32 * MIB
    # The weight of [2048, 1024] in bf16, the scales divided by 127, and the input's gradient.
    assert fake.peak_allocated_bytes() - before == workspace + 4 * MIB + 2 * MIB
    assert fake.allocated_bytes() - before == workspace + 2 * MIB


def test_outlier_columns_are_kept_apart_in_16_bits(fake: FakeDevice) -> None:
    columns, rows = 256, 1024
    layers = {threshold: int8_layer(threshold) for threshold in (0.0, 6.0)}
    set_outlier_share(layers[6.0].state, columns / 1024, rows)
    kept, outputs = {}, []
    for threshold, layer in layers.items():
        inputs = torch.empty(rows, 1024, dtype=torch.bfloat16, requires_grad=True)
        before = fake.allocated_bytes()
        outputs.append(layer(inputs))
        kept[threshold] = fake.allocated_bytes() - before
    # What the backward pass may need of the input, and the columns' numbers; their product has cuBLAS's workspace.
    assert kept[6.0] - kept[0.0] == rows * columns * 2 + columns * 8 + 32 * MIB


def test_a_share_holds_for_its_rows_and_fewer_rows_have_fewer_outliers(fake: FakeDevice) -> None:
    layer = int8_layer(threshold=6.0)
    set_outlier_share(layer.state, 0.75, rows=512)
    counts = {}
    with torch.no_grad():
        for rows in (512, 256, 1):
            layer(torch.empty(rows, 1024, dtype=torch.float16))
            counts[rows] = layer.state.idx.numel()
        with given_outlier_share(0.5):
            layer(torch.empty(1, 1024, dtype=torch.float16))
            counts["given"] = layer.state.idx.numel()
    assert counts == {512: 768, 256: 512, 1: round(1024 * (1 - 0.25 ** (1 / 512))), "given": 512}


def test_an_unknown_share_is_refused(fake: FakeDevice) -> None:
    layer = int8_layer(threshold=6.0)
    with pytest.raises(DeviceError, match="share of outlier columns"):
        layer(torch.empty(8, 1024, dtype=torch.float16))
    with pytest.raises(DeviceError, match="between 0 and 1"):
        set_outlier_share(layer.state, 1.5, rows=8)


def four_bit_layer(double: bool, ingoing: int = 1024, outgoing: int = 2048) -> Linear4bit:
    layer = Linear4bit(ingoing, outgoing, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4")
    layer.weight = Params4bit(
        torch.empty(outgoing, ingoing, dtype=torch.bfloat16), quant_type="nf4", compress_statistics=double
    )._quantize(torch.device("cpu"))
    return layer


@pytest.mark.parametrize("double", [False, True])
def test_a_4_bit_weight_holds_half_a_byte_and_its_scales(fake: FakeDevice, double: bool) -> None:
    first = four_bit_layer(double)
    before = fake.allocated_bytes()
    second = four_bit_layer(double)
    blocks = 2048 * 1024 // 64
    # A table of 16 numbers each; doubly quantized scales have a byte each, scales of their own for 256, their mean and
    # a copy of the table of 256 numbers.
    state = blocks * 1 + blocks // 256 * 4 + 512 + KIB if double else blocks * 4
    assert fake.allocated_bytes() - before == 2048 * 1024 // 2 + 512 + state
    assert isinstance(first.weight, Params4bit)
    assert isinstance(second.weight, FakeTensor)
    assert isinstance(second.weight, nn.Parameter)


@pytest.mark.parametrize(("rows", "has_dequantized"), [(4, False), (2048, True)])
def test_a_4_bit_product_dequantizes_for_many_rows(fake: FakeDevice, rows: int, has_dequantized: bool) -> None:
    layer = four_bit_layer(double=False)
    inputs = torch.empty(rows, 1024, dtype=torch.bfloat16)
    with torch.no_grad():
        layer(inputs)
        before = fake.allocated_bytes()
        fake.reset_peak()
        out = layer(inputs)
    dequantized = 2048 * 1024 * 2 if has_dequantized else 0
    assert fake.peak_allocated_bytes() - before == out.numel() * 2 + dequantized


@pytest.mark.parametrize(
    ("card", "rows", "outgoing", "ingoing", "custom"),
    [
        ("H100", 4, 4096, 4096, True),
        ("H100", 2000, 4096, 4096, False),
        # sm90, three waves of 64 outputs a block and more: up to 64 rows.
        ("H100", 64, 28672, 4096, True),
        ("H100", 65, 28672, 4096, False),
        # sm80 takes it up to 128 there.
        ("A100-80", 128, 28672, 4096, True),
        # Short and wide weights under 4 Mi numbers, few blocks: up to 512 rows on sm90.
        ("H100", 512, 2048, 512, True),
        ("H100", 513, 2048, 512, False),
    ],
)
def test_the_way_of_a_4_bit_product_is_the_librarys_choice(
    card: str, rows: int, outgoing: int, ingoing: int, custom: bool
) -> None:
    with predicting_for(CARDS[card]):
        assert takes_custom_kernel(torch.bfloat16, rows, outgoing, ingoing) is custom


def test_8_bit_adamw_keeps_two_bytes_a_number_and_fp32_for_small_tensors(fake: FakeDevice) -> None:
    large, small = nn.Parameter(torch.empty(64 * KIB)), nn.Parameter(torch.empty(KIB))
    optimizer = bitsandbytes.optim.AdamW8bit([large, small])
    for parameter in (large, small):
        parameter.grad = torch.empty_like(parameter)
    before = fake.allocated_bytes()
    fake.reset_peak()
    optimizer.step()
    blocks = 64 * KIB // 256
    maps = 2 * 256 * 4
    assert fake.allocated_bytes() - before == 2 * (64 * KIB + blocks * 4) + maps + 2 * KIB * 4
    assert fake.peak_allocated_bytes() == fake.allocated_bytes()
    before = fake.allocated_bytes()
    optimizer.step()
    assert fake.allocated_bytes() == before


def test_what_a_session_replaces_comes_back() -> None:
    places = ((bitsandbytes, "matmul"), (functional, "create_dynamic_map"), (functional, "get_4bit_type"))
    originals = [getattr(owner, name) for owner, name in places]
    with FakeDevice().session():
        assert all(getattr(*place) is not original for place, original in zip(places, originals, strict=True))
    assert [getattr(*place) for place in places] == originals
    assert type(Int8Params(torch.ones(2, 2, dtype=torch.int8), requires_grad=False)) is Int8Params
