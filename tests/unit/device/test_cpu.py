"""The CPU device's byte counters against bytes worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lorabench import environment
from lorabench.device.cpu import CpuDevice
from lorabench.device.protocol import Device

FLOAT = 4


def test_it_is_a_device() -> None:
    device: Device = CpuDevice()
    assert device.type == "cpu"
    assert device.torch_device == torch.device("cpu")
    assert device.computes
    assert device.peak_reserved_bytes() is None
    assert device.device_used_bytes() is None
    assert device.total_bytes > 1 << 28
    assert device.name == environment.cpu_name()


def test_peak_and_after_of_a_hand_computed_sequence() -> None:
    device = CpuDevice()
    with device.session(), device.counting():
        a = torch.ones(1000)
        assert device.allocated_bytes() == 4000
        b = a * 2
        c = b + a
        del b
        assert device.allocated_bytes() == 8000
        assert device.peak_allocated_bytes() == 12000
        device.reset_peak()
        assert device.peak_allocated_bytes() == 8000
        c = (c.double() + 1).float()
        # a, old c, c.double() and the sum, then the fp32 copy beside the sum while old c still has its name.
        assert device.peak_allocated_bytes() == 4000 + 4000 + 8000 + 8000
        del a, c
        assert device.allocated_bytes() == 0


def test_training_step_by_formula() -> None:
    batch, inner, hidden, outer = 32, 16, 64, 8
    device = CpuDevice()
    with device.session(), device.counting():
        model = nn.Sequential(nn.Linear(inner, hidden, bias=False), nn.GELU(), nn.Linear(hidden, outer, bias=False))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        weights = (inner * hidden + hidden * outer) * FLOAT
        assert device.allocated_bytes() == weights

        x = torch.ones(batch, inner)
        inputs = batch * inner * FLOAT
        for _ in range(2):
            device.reset_peak()
            loss = model(x).sum()
            # GELU saves its input, the second product saves GELU's output; sum saves nothing of its input.
            activations = 2 * batch * hidden * FLOAT
            assert device.allocated_bytes() == weights + inputs + activations + FLOAT
            # At sum, the model's output lives beside the loss.
            assert device.peak_allocated_bytes() == weights + inputs + activations + batch * outer * FLOAT + FLOAT
            device.reset_peak()
            loss.backward()
            del loss
            gradients = weights
            assert device.allocated_bytes() == weights + inputs + gradients
            # Highest while GELU's backward runs: its saved input, the gradient that comes in, the one that goes out,
            # the second weight's gradient, the loss and its own gradient. GELU's output has been let go.
            highest = weights + inputs + 3 * batch * hidden * FLOAT + hidden * outer * FLOAT + 2 * FLOAT
            assert device.peak_allocated_bytes() == highest
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            device.settle()
            assert device.allocated_bytes() == weights + inputs


def test_what_is_born_outside_counting_never_enters_the_sum() -> None:
    device = CpuDevice()
    with device.session():
        with device.counting():
            kept = torch.ones(100)
            before = device.allocated_bytes()
        timed = torch.ones(1000)
        kept.add_(timed.sum())
        del timed
    assert before == 400
    assert device._counter.allocated_bytes == 400
    del kept
    assert device._counter.allocated_bytes == 0


def test_second_counting_block_is_refused_and_a_new_session_starts_clean() -> None:
    device = CpuDevice()
    held = []
    with device.session():
        with device.counting():
            held.append(torch.ones(100))
        with pytest.raises(RuntimeError, match="entered before"), device.counting():
            pass
    with device.session(), device.counting():
        assert device.allocated_bytes() == 0
        held.append(torch.ones(10))
        assert device.allocated_bytes() == 40
        held.clear()
        assert device.allocated_bytes() == 0


def test_counters_are_refused_outside_counting() -> None:
    device = CpuDevice()
    for read in (device.allocated_bytes, device.peak_allocated_bytes, device.reset_peak):
        with device.session(), pytest.raises(RuntimeError, match=r"outside of counting"):
            read()


def test_marks_are_seconds_apart() -> None:
    device = CpuDevice()
    assert device.elapsed_s([1.0, 1.5, 3.5]) == [0.5, 2.0]
    assert device.elapsed_s([device.mark()]) == []
    (elapsed,) = device.elapsed_s([device.mark(), device.mark()])
    assert elapsed >= 0
