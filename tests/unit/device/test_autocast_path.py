"""Autocast in a fake session against what torch.amp documents of CUDA, and the CPU's own outside of it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from lorabench.device.fake import FakeDevice


def dtypes() -> dict[str, torch.dtype]:
    weight = torch.empty(8, 8, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = functional.linear(torch.empty(4, 8), weight)
        return {
            "linear": low.dtype,
            "gelu": functional.gelu(low).dtype,
            "mean": low.mean().dtype,
            "pow": low.pow(2).dtype,
            "layer_norm": functional.layer_norm(low, (8,)).dtype,
            "softmax": low.softmax(-1).dtype,
            "sum": low.sum().dtype,
        }


def test_cudas_lists_hold_within_a_session_and_the_cpus_after_it() -> None:
    of_the_cpu = dtypes()
    with FakeDevice().session():
        found = dtypes()
    low, high = torch.bfloat16, torch.float32
    assert [found[name] for name in ("linear", "gelu", "mean")] == [low, low, low]
    assert [found[name] for name in ("pow", "layer_norm", "softmax", "sum")] == [high, high, high, high]
    assert dtypes() == of_the_cpu


def test_trained_weights_are_cast_once_and_frozen_ones_each_time() -> None:
    device = FakeDevice()
    with device.session():
        trained, frozen = torch.empty(512, 512, requires_grad=True), torch.empty(512, 512)
        activations = torch.empty(1, 512, dtype=torch.bfloat16)
        functional.linear(activations, trained)
        before = device.allocated_bytes()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            functional.linear(activations, frozen)
            assert device.allocated_bytes() == before
            for _ in range(2):
                functional.linear(activations, trained)
                assert device.allocated_bytes() - before == 512 * 512 * 2
        assert device.allocated_bytes() == before


def test_an_operators_last_argument_is_cast_first(blocks_asked_by: Callable[[Callable[[], object]], list[int]]) -> None:
    """As C++ is compiled on Linux: on an H100 the gradients' copies come in the other order, the input's first."""
    with FakeDevice().session():
        activations, weight = torch.empty(4, 512), torch.empty(512, 512)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            asked = blocks_asked_by(lambda: functional.linear(activations, weight))
    assert asked[:2] == [weight.numel() * 2, activations.numel() * 2]


def test_libraries_that_ask_for_cudas_flag_are_told_of_the_session() -> None:
    with FakeDevice().session(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.is_autocast_enabled()
