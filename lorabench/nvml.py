"""What the NVIDIA driver tells without CUDA: which GPUs there are and in what state. Torch-free.

Everything is optional: without a driver there are no GPUs, and what a card does not tell is left out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pynvml


@dataclass(frozen=True)
class Gpu:
    """One GPU that CUDA would show: its number there (with ``CUDA_DEVICE_ORDER=PCI_BUS_ID``) and NVML's own."""

    index: int
    nvml_index: int
    name: str
    total_bytes: int


def visible_gpus() -> list[Gpu]:
    """The GPUs in CUDA's order, after ``CUDA_VISIBLE_DEVICES``; empty without a driver. MIG slices are not listed."""
    with _nvml() as ready:
        if not ready:
            return []
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        uuids = [_text(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
        gpus: list[Gpu] = []
        for nvml_index in visible_indices(os.environ.get("CUDA_VISIBLE_DEVICES"), uuids):
            handle = handles[nvml_index]
            total_bytes = pynvml.nvmlDeviceGetMemoryInfo(handle).total
            gpus.append(Gpu(len(gpus), nvml_index, _text(pynvml.nvmlDeviceGetName(handle)), total_bytes))
        return gpus


def visible_indices(variable: str | None, uuids: list[str]) -> list[int]:
    """NVML's numbers of the GPUs that ``CUDA_VISIBLE_DEVICES`` lets through: all if it is not set.

    As CUDA does, it stops at the first entry that names no GPU or one already named (CUDA C++ Programming Guide,
    CUDA Environment Variables).
    """
    if variable is None:
        return list(range(len(uuids)))
    chosen: list[int] = []
    for entry in variable.split(","):
        found = _find(entry.strip(), uuids)
        if found is None or found in chosen:
            break
        chosen.append(found)
    return chosen


def _find(entry: str, uuids: list[str]) -> int | None:
    if entry.isdecimal():
        return int(entry) if int(entry) < len(uuids) else None
    matching = [index for index, uuid in enumerate(uuids) if entry and uuid.startswith(entry)]
    return matching[0] if len(matching) == 1 else None


def describe_gpu(nvml_index: int) -> dict[str, Any]:
    """Driver version, clocks, power limit, throttle reasons and the like of one GPU, as far as they are told."""
    with _nvml() as ready:
        if not ready:
            return {}
        handle = pynvml.nvmlDeviceGetHandleByIndex(nvml_index)
        questions: dict[str, Callable[[], Any]] = {
            "driver": lambda: _text(pynvml.nvmlSystemGetDriverVersion()),
            "compute_capability": lambda: "{}.{}".format(*pynvml.nvmlDeviceGetCudaComputeCapability(handle)),
            "sm_clock_mhz": lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
            "max_sm_clock_mhz": lambda: pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM),
            "max_memory_clock_mhz": lambda: pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_MEM),
            "power_limit_w": lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000,
            "ecc": lambda: bool(pynvml.nvmlDeviceGetEccMode(handle)[0]),
            "throttle_reasons": lambda: throttle_reasons(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)),
        }
        answers = {}
        for name, ask in questions.items():
            try:
                answers[name] = ask()
            except pynvml.NVMLError:
                continue
        return answers


def throttle_reasons(bits: int) -> list[str]:
    """Names of the reasons in NVML's bit mask; idling is none."""
    reasons = {
        pynvml.nvmlClocksThrottleReasonSwPowerCap: "power cap",
        pynvml.nvmlClocksThrottleReasonHwSlowdown: "hardware slowdown",
        pynvml.nvmlClocksThrottleReasonSyncBoost: "sync boost",
        pynvml.nvmlClocksThrottleReasonSwThermalSlowdown: "thermal slowdown (software)",
        pynvml.nvmlClocksThrottleReasonHwThermalSlowdown: "thermal slowdown (hardware)",
        pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown: "power brake",
        pynvml.nvmlClocksThrottleReasonApplicationsClocksSetting: "application clocks",
    }
    return [name for bit, name in reasons.items() if bits & bit]


@contextmanager
def _nvml() -> Iterator[bool]:
    """Yields whether NVML can be asked."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield False
        return
    try:
        yield True
    finally:
        pynvml.nvmlShutdown()


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
