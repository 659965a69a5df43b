"""PEFT's variants on fake tensors: the bytes of attaching and of a step, against PEFT on the CPU and by formula."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import peft
import pytest
import torch
from bitsandbytes.nn import Int8Params, Linear4bit, Linear8bitLt, Params4bit
from peft.tuners.lora.dora import DoraLinearLayer
from peft.tuners.tuners_utils import cast_adapter_dtype
from torch import Tensor, nn

from lorabench.device.allocator import MIB
from lorabench.device.cpu import CpuDevice
from lorabench.device.fake import FakeDevice
from lorabench.device.fake_attach import attach_on_meta
from lorabench.device.protocol import Device
from lorabench.errors import DeviceError

IN, OUT, RANK, ROWS = 512, 1024, 8, 256
VOCABULARY, TOKENS = 2048, 128
WEIGHT = IN * OUT
WORKSPACE = 32 * MIB
"""cuBLAS's: one for the forward pass's thread, one for autograd's (CublasHandlePool.cpp, Hopper)."""


class Layers(nn.Module):
    """Sizes are multiples of the allocator's 512 bytes, and so the CPU's bytes are a card's but for the workspaces."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, IN, dtype=dtype)
        self.projection = nn.Linear(IN, OUT, bias=False, dtype=dtype)

    def forward(self, ids: Tensor) -> Tensor:
        return self.projection(self.embedding(ids))


def config(**options: Any) -> peft.LoraConfig:
    return peft.LoraConfig(r=RANK, lora_alpha=16, target_modules=["projection"], **options)


def attach(device: Device, model: nn.Module, lora: peft.LoraConfig) -> nn.Module:
    if device.type == "cpu":
        return peft.get_peft_model(model, lora)
    attached = attach_on_meta(model, lambda: peft.get_peft_model(model, lora, autocast_adapter_dtype=False))
    cast_adapter_dtype(attached, "default")
    return attached


@dataclass(frozen=True)
class Bytes:
    static: int
    forward: int
    backward: int


def step_bytes(device: Device, dtype: torch.dtype, lora: peft.LoraConfig) -> Bytes:
    """Bytes of the model with its adapter, and the peaks of the second step's two passes."""
    with device.session(), device.counting():
        model = attach(device, Layers(dtype), lora)
        device.settle()
        static = device.allocated_bytes()
        ids = torch.zeros(ROWS, dtype=torch.int64)
        gradient = torch.empty(ROWS, OUT, dtype=dtype)
        for _ in range(2):
            # The first step makes the workspaces.
            device.reset_peak()
            out = model(ids)
            forward = device.peak_allocated_bytes()
            device.reset_peak()
            out.backward(gradient)
            backward = device.peak_allocated_bytes()
            del out
            model.zero_grad(set_to_none=True)
        return Bytes(static, forward, backward)


VARIANTS = {"dora": {"use_dora": True}, "tokens": {"trainable_token_indices": {"embedding": list(range(TOKENS))}}}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variants_bytes_are_those_of_peft_on_the_cpu(variant: str, dtype: torch.dtype) -> None:
    real = step_bytes(CpuDevice(), dtype, config(**VARIANTS[variant]))
    fake = step_bytes(FakeDevice(), dtype, config(**VARIANTS[variant]))
    # DoRA multiplies while it is attached.
    assert fake.static - real.static == (WORKSPACE if variant == "dora" else 0)
    assert fake.forward - real.forward == 2 * WORKSPACE
    assert fake.backward - real.backward == 2 * WORKSPACE


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variants_parameters_are_those_of_peft_on_the_cpu(variant: str) -> None:
    def described(device: Device) -> dict[str, Any]:
        with device.session():
            model = attach(device, Layers(torch.bfloat16), config(**VARIANTS[variant]))
            found = {name: (w.shape, w.dtype, w.requires_grad, w.is_meta) for name, w in model.named_parameters()}
            return found | {name: (buffer.shape, buffer.dtype) for name, buffer in model.named_buffers()}

    assert described(FakeDevice()) == described(CpuDevice())


@pytest.fixture
def fake() -> Iterator[FakeDevice]:
    device = FakeDevice()
    with device.session():
        yield device


def int8() -> Linear8bitLt:
    layer = Linear8bitLt(IN, OUT, bias=False, has_fp16_weights=False, threshold=0.0)
    half = torch.empty(OUT, IN, dtype=torch.float16)
    layer.weight = Int8Params(half, requires_grad=False, has_fp16_weights=False)._quantize(half.device)
    return layer


def nf4() -> Linear4bit:
    layer = Linear4bit(IN, OUT, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4")
    weight = torch.empty(OUT, IN, dtype=torch.bfloat16)
    layer.weight = Params4bit(weight, requires_grad=False, compress_statistics=False, quant_type="nf4")._quantize(
        torch.device("cpu")
    )
    return layer


SCALES = WEIGHT // 64 * 4 + 512
"""Of 4-bit weights: one in fp32 for 64 of them, and the table of 16 values in a block."""


@pytest.mark.parametrize(
    ("make", "dequantized", "copied"),
    [
        pytest.param(int8, 4 * WEIGHT, 0, id="int8"),
        # PEFT copies a 4-bit layer, with its scales, before it dequantizes the weight, to 16 bits.
        pytest.param(nf4, 2 * WEIGHT, WEIGHT // 2 + SCALES, id="nf4"),
    ],
)
def test_magnitudes_of_quantized_weights_take_them_dequantized(
    fake: FakeDevice, make: Callable[[], nn.Module], dequantized: int, copied: int
) -> None:
    a, b = torch.empty(RANK, IN), torch.empty(OUT, RANK)
    base = make()
    b @ a
    before = fake.allocated_bytes()
    fake.reset_peak()
    layer = DoraLinearLayer(fan_in_fan_out=False)
    layer.update_layer(base_layer=base, lora_A=a, lora_B=b, scaling=2.0)
    assert layer.weight.dtype == torch.float32
    assert fake.allocated_bytes() - before == OUT * 4
    # B @ A, that times the scaling, and the sum with the weight, in fp32.
    assert fake.peak_allocated_bytes() - before == copied + dequantized + 3 * 4 * WEIGHT


@pytest.mark.parametrize("make", [int8, nf4])
def test_quantized_layers_stay_what_they_are_in_a_dora_step(fake: FakeDevice, make: Callable[[], nn.Module]) -> None:
    holder = nn.Module()
    holder.projection = make()
    holder.is_loaded_in_8bit = make is int8
    holder.is_loaded_in_4bit = make is nf4
    model = attach(fake, holder, config(use_dora=True)).base_model.model
    weight = model.projection.base_layer.weight
    inputs = torch.empty(ROWS, IN, dtype=torch.bfloat16, requires_grad=True)
    for _ in range(2):
        model.projection(inputs).sum().backward()
        held = fake.allocated_bytes()
    assert model.projection.base_layer.weight is weight
    model.projection(inputs).sum().backward()
    assert fake.allocated_bytes() == held


def test_initialisations_from_the_weights_values_are_refused(fake: FakeDevice) -> None:
    with pytest.raises(DeviceError, match="init_lora_weights: pissa"):
        attach(fake, Layers(torch.float32), config(init_lora_weights="pissa"))
