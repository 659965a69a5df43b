from __future__ import annotations

import pytest
import torch

from lorabench.device.cpu import CpuDevice
from lorabench.measure import ceilings
from lorabench.measure.ceilings import measure_ceilings


class Clock(CpuDevice):
    """A device whose copy takes a second, and whose products take as long as their elements say."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def mark(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()

    def multiply(left, right):
        clock.seconds += 2 * left.shape[0] ** 3 / (1e9 if left.dtype == torch.float32 else 4e9)

    monkeypatch.setattr(torch, "mm", multiply)
    monkeypatch.setattr(torch, "_int_mm", multiply)
    monkeypatch.setattr(torch.Tensor, "copy_", lambda *_: setattr(clock, "seconds", clock.seconds + 1.0))
    return clock


def test_ceilings_are_bytes_and_operations_a_second(clock):
    assert measure_ceilings(clock, (), {"fp32", "int8"}) == pytest.approx(
        {"copy": 2 * ceilings.COPY_BYTES["cpu"], "fp32": 1e9, "int8": 4e9}
    )


def test_what_is_known_or_not_asked_for_is_not_measured(clock):
    assert measure_ceilings(clock, ("copy", "fp32"), {"fp32", "bf16"}).keys() == {"bf16"}


def test_what_the_device_refuses_is_absent(clock, monkeypatch):
    def refuse(*_):
        raise RuntimeError("no such product")

    monkeypatch.setattr(torch, "_int_mm", refuse)
    assert measure_ceilings(clock, ("copy",), {"int8"}) == {}


def test_the_quicker_layout_counts(clock, monkeypatch):
    def multiply(left, right):
        clock.seconds += 2 * left.shape[0] ** 3 / (1e9 if right.is_contiguous() else 7e9)

    monkeypatch.setattr(torch, "mm", multiply)
    assert measure_ceilings(clock, ("copy",), {"fp16"}) == pytest.approx({"fp16": 7e9})


def test_a_product_is_enlarged_until_it_takes_long_enough(clock, monkeypatch):
    sides = []
    multiply = torch.mm
    monkeypatch.setattr(torch, "mm", lambda left, right: (sides.append(left.shape[0]), multiply(left, right)))
    monkeypatch.setattr(ceilings, "LONG_ENOUGH_S", {"cpu": 0.2})
    measure_ceilings(clock, ("copy",), {"fp32"})
    # 2 x 512^3 operations at 1e9 a second are 0.27 s.
    assert sorted(set(sides)) == [256, 512]


def test_matrices_are_random(clock, monkeypatch):
    """Of equal numbers a GPU's products are faster than a model's."""
    seen = {}
    multiply = torch.mm

    def look(left, right):
        seen[left.dtype] = left.float()
        multiply(left, right)

    monkeypatch.setattr(torch, "mm", look)
    monkeypatch.setattr(torch, "_int_mm", look)
    measure_ceilings(clock, ("copy",), {"fp16", "bf16", "int8"})
    for dtype in (torch.float16, torch.bfloat16):
        assert seen[dtype].mean().item() == pytest.approx(0, abs=0.05)
        assert seen[dtype].std().item() == pytest.approx(1, abs=0.05)
    # Whole numbers from -128 to 127, each as often as the others.
    assert (seen[torch.int8].min().item(), seen[torch.int8].max().item()) == (-128, 127)
    assert seen[torch.int8].std().item() == pytest.approx(256 / 12**0.5, rel=0.05)
