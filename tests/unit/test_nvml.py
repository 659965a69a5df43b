"""What the driver tells, against a library that answers as NVML does."""

from __future__ import annotations

from types import SimpleNamespace

import pynvml
import pytest

from lorabench import nvml
from lorabench.nvml import Gpu, describe_gpu, throttle_reasons, visible_gpus, visible_indices

UUIDS = ["GPU-aa11", "GPU-aa22", "GPU-bb33"]


@pytest.mark.parametrize(
    ("variable", "indices"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("2,0", [2, 0]),
        (" 1 , 2 ", [1, 2]),
        ("0,7,1", [0]),
        ("0,-1,1", [0]),
        ("1,1,2", [1]),
        ("GPU-bb33,GPU-aa11", [2, 0]),
        ("GPU-b", [2]),
        ("GPU-aa", []),
        ("NoDevFiles", []),
    ],
)
def test_visible_devices_are_read_as_cuda_reads_them(variable, indices):
    assert visible_indices(variable, UUIDS) == indices


@pytest.fixture
def driver(monkeypatch):
    """A driver with two GPUs, the second of which tells little."""
    answers = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetUUID": lambda handle: UUIDS[handle],
        "nvmlDeviceGetName": lambda handle: [b"Imaginary A", "Imaginary B"][handle],
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(total=(handle + 1) << 30),
        "nvmlSystemGetDriverVersion": lambda: "580.10",
        "nvmlDeviceGetCudaComputeCapability": lambda handle: (9, 0),
        "nvmlDeviceGetEnforcedPowerLimit": lambda handle: 700_000,
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda handle: pynvml.nvmlClocksThrottleReasonSwPowerCap,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)
    for name in ("nvmlDeviceGetClockInfo", "nvmlDeviceGetMaxClockInfo", "nvmlDeviceGetEccMode"):
        monkeypatch.setattr(pynvml, name, _unsupported)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def _unsupported(*_):
    raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)


def test_gpus_are_numbered_as_cuda_shows_them(driver, monkeypatch):
    assert visible_gpus() == [Gpu(0, 0, "Imaginary A", 1 << 30), Gpu(1, 1, "Imaginary B", 2 << 30)]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert visible_gpus() == [Gpu(0, 1, "Imaginary B", 2 << 30)]


def test_what_a_card_does_not_tell_is_left_out(driver):
    assert describe_gpu(0) == {
        "driver": "580.10",
        "compute_capability": "9.0",
        "power_limit_w": 700.0,
        "throttle_reasons": ["power cap"],
    }


def test_without_a_driver_there_are_no_gpus(monkeypatch):
    monkeypatch.setattr(pynvml, "nvmlInit", _unsupported)
    assert visible_gpus() == []
    assert describe_gpu(0) == {}


def test_throttle_reasons_have_names():
    both = pynvml.nvmlClocksThrottleReasonSwPowerCap | pynvml.nvmlClocksThrottleReasonHwThermalSlowdown
    assert throttle_reasons(both) == ["power cap", "thermal slowdown (hardware)"]
    assert throttle_reasons(pynvml.nvmlClocksThrottleReasonGpuIdle) == []


def test_nvml_is_shut_down_after_an_error(driver, monkeypatch):
    calls = []
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: calls.append("shutdown"))
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", _unsupported)
    with pytest.raises(pynvml.NVMLError):
        nvml.visible_gpus()
    assert calls == ["shutdown"]
