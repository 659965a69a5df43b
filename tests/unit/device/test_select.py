"""Specs and the devices behind them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

from lorabench.device.cpu import CpuDevice
from lorabench.device.fake import FakeDevice
from lorabench.device.select import open_device
from lorabench.environment import resolve_device
from lorabench.errors import DeviceError


def test_specs_open_their_devices() -> None:
    assert isinstance(open_device("cpu"), CpuDevice)
    assert isinstance(open_device("fake"), FakeDevice)
    limited = open_device("fake:L4:1000000")
    assert isinstance(limited, FakeDevice)
    assert (limited.card.name, limited.capacity_bytes) == ("L4", 1_000_000)


@pytest.mark.parametrize("spec", ["cpu", "fake", "fake:B200"])
def test_a_worker_names_the_device_as_the_parent_does(spec: str) -> None:
    opened, resolved = open_device(spec), resolve_device(spec)
    assert resolved.spec == spec
    assert (opened.type, opened.name) == (resolved.device.type, resolved.device.name)
    assert opened.total_bytes == resolved.device.total_bytes


@pytest.mark.parametrize("spec", ["auto", "gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", ""])
def test_other_specs_are_refused_in_one_line(spec: str) -> None:
    with pytest.raises(DeviceError, match="cpu, cuda, cuda:N or fake would be right") as refused:
        open_device(spec)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("choose", [open_device, resolve_device])
@pytest.mark.parametrize("spec", ["fake:1", "fake:T5:100", "fake::5"])
def test_unknown_cards_are_refused_with_those_that_there_are(choose: Callable[[str], object], spec: str) -> None:
    with pytest.raises(DeviceError, match=r"no such card.*T4, V100-16.*B200") as refused:
        choose(spec)
    assert "\n" not in str(refused.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("spec", ["cuda", "cuda:1"])
def test_without_a_gpu_cuda_is_refused_in_one_line(spec: str) -> None:
    with pytest.raises(DeviceError, match="can use no GPU here") as refused:
        open_device(spec)
    assert "\n" not in str(refused.value)


def test_choosing_needs_no_torch() -> None:
    code = "import sys, lorabench.device.select; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
