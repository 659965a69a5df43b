"""What the driver tells, against a library that answers as NVML does."""

from __future__ import annotations

from types import SimpleNamespace

import pynvml
import pytest

from lorabench import nvml
from lorabench.nvml import (
    Gpu,
    GpuUse,
    describe_gpu,
    device_state,
    gpu_use,
    throttle_reasons,
    throttled_s,
    visible_gpus,
    visible_indices,
)

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
    """A driver with two GPUs that tells no clocks; in use are a GiB by a listed process and 3 MiB that it reserves."""
    answers = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetUUID": lambda handle: UUIDS[handle],
        "nvmlDeviceGetName": lambda handle: [b"Imaginary A", "Imaginary B"][handle],
        "nvmlDeviceGetMemoryInfo": lambda handle, version=None: SimpleNamespace(
            total=(handle + 1) << 30, used=(1 << 30) + (0 if version == pynvml.nvmlMemory_v2 else 3 << 20)
        ),
        "nvmlDeviceGetComputeRunningProcesses": lambda handle: [SimpleNamespace(pid=70), SimpleNamespace(pid=71)],
        "nvmlDeviceGetGraphicsRunningProcesses": lambda handle: [SimpleNamespace(pid=71), SimpleNamespace(pid=72)],
        "nvmlDeviceGetTemperature": lambda handle, sensor: 41,
        "nvmlDeviceGetPowerUsage": lambda handle: 350_500,
        "nvmlSystemGetDriverVersion": lambda: "580.10",
        "nvmlDeviceGetCudaComputeCapability": lambda handle: (9, 0),
        "nvmlDeviceGetEnforcedPowerLimit": lambda handle: 700_000,
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda handle: pynvml.nvmlClocksThrottleReasonSwPowerCap,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)
    for name in (
        "nvmlDeviceGetClockInfo",
        "nvmlDeviceGetMaxClockInfo",
        "nvmlDeviceGetEccMode",
        "nvmlDeviceGetViolationStatus",
    ):
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
    assert device_state(0) == {}
    assert throttled_s(0) == {}
    assert gpu_use(0) is None


def test_throttle_reasons_have_names():
    both = pynvml.nvmlClocksThrottleReasonSwPowerCap | pynvml.nvmlClocksThrottleReasonHwThermalSlowdown
    assert throttle_reasons(both) == ["power cap", "thermal slowdown (hardware)"]
    assert throttle_reasons(pynvml.nvmlClocksThrottleReasonGpuIdle) == []


def test_the_state_is_in_the_units_of_its_names(driver, monkeypatch):
    assert device_state(0) == {"temperature_c": 41, "power_w": 350.5, "throttle_reasons": ["power cap"]}
    clocks = {pynvml.NVML_CLOCK_SM: 1980, pynvml.NVML_CLOCK_MEM: 2619}
    monkeypatch.setattr(pynvml, "nvmlDeviceGetClockInfo", lambda handle, kind: clocks[kind])
    state = device_state(0)
    assert (state["sm_clock_mhz"], state["memory_clock_mhz"]) == (1980, 2619)


def test_throttling_is_counted_in_seconds(driver, monkeypatch):
    assert throttled_s(0) == {}
    counters = {pynvml.NVML_PERF_POLICY_POWER: 2_500_000_000, pynvml.NVML_PERF_POLICY_THERMAL: 0}
    monkeypatch.setattr(
        pynvml,
        "nvmlDeviceGetViolationStatus",
        lambda handle, policy: SimpleNamespace(referenceTime=1, violationTime=counters[policy]),
    )
    assert throttled_s(0) == {"power cap": 2.5, "thermal slowdown": 0.0}


def test_the_users_of_a_gpu_are_all_that_nvml_lists(driver):
    assert gpu_use(0) == GpuUse(frozenset({70, 71, 72}), 1 << 30)


def test_a_driver_that_lists_no_processes_still_tells_bytes(driver, monkeypatch):
    for name in ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"):
        monkeypatch.setattr(pynvml, name, _unsupported)
    assert gpu_use(0) == GpuUse(frozenset(), 1 << 30)


def test_an_old_driver_tells_bytes_with_what_it_reserves(driver, monkeypatch):
    newer = pynvml.nvmlDeviceGetMemoryInfo
    monkeypatch.setattr(
        pynvml,
        "nvmlDeviceGetMemoryInfo",
        lambda handle, version=None: _unsupported() if version else newer(handle),
    )
    assert gpu_use(0).used_bytes == (1 << 30) + (3 << 20)


@pytest.mark.parametrize(
    ("pids", "used_bytes", "in_use"), [((), 4 << 20, False), ((7,), 0, True), ((), 500 << 20, True)]
)
def test_a_gpu_is_in_use_by_a_listed_process_or_by_more_than_a_drivers_bytes(pids, used_bytes, in_use):
    assert GpuUse(frozenset(pids), used_bytes).in_use == in_use


def test_nvml_is_shut_down_after_an_error(driver, monkeypatch):
    calls = []
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: calls.append("shutdown"))
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", _unsupported)
    with pytest.raises(pynvml.NVMLError):
        nvml.visible_gpus()
    assert calls == ["shutdown"]
