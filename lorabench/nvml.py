"""What the NVIDIA driver tells without CUDA: which GPUs there are and in what state. Torch-free.

Everything is optional: without a driver there are no GPUs, and what a card does not tell is left out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pynvml

# What the driver itself holds of an idle GPU varies by a few MiB; the smallest context takes over a hundred.
IDLE_BYTES = 64 << 20


@dataclass(frozen=True)
class Gpu:
    """One GPU that CUDA would show: its number there (with ``CUDA_DEVICE_ORDER=PCI_BUS_ID``) and NVML's own."""

    index: int
    nvml_index: int
    name: str
    total_bytes: int


def visible_gpus() -> list[Gpu]:
    """The GPUs in CUDA's order, after ``CUDA_VISIBLE_DEVICES``; empty without a driver. MIG slices are not listed."""
    with nvml() as ready:
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
    """Driver version, highest clocks, power limit, throttle reasons and the like of one GPU, as far as they are told.

    Its present clocks are left to :func:`device_state`: those of an idle GPU say nothing.
    """
    with nvml() as ready:
        if not ready:
            return {}
        handle = pynvml.nvmlDeviceGetHandleByIndex(nvml_index)
        return _answers(
            {
                "driver": lambda: _text(pynvml.nvmlSystemGetDriverVersion()),
                "compute_capability": lambda: "{}.{}".format(*pynvml.nvmlDeviceGetCudaComputeCapability(handle)),
                "max_sm_clock_mhz": lambda: pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM),
                "max_memory_clock_mhz": lambda: pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_MEM),
                "power_limit_w": lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000,
                "ecc": lambda: bool(pynvml.nvmlDeviceGetEccMode(handle)[0]),
                "throttle_reasons": lambda: _throttle_reasons_of(handle),
            }
        )


def device_state(nvml_index: int) -> dict[str, Any]:
    """Clocks, temperature, power (the driver averages it over up to a second) and throttle reasons of this moment.

    A busy GPU takes some milliseconds to change them, so ask at once after the work. What is not told is left out.
    """
    with nvml() as ready:
        if not ready:
            return {}
        handle = pynvml.nvmlDeviceGetHandleByIndex(nvml_index)
        return _answers(
            {
                "sm_clock_mhz": lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
                "memory_clock_mhz": lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM),
                "temperature_c": lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
                "power_w": lambda: pynvml.nvmlDeviceGetPowerUsage(handle) / 1000,
                "throttle_reasons": lambda: _throttle_reasons_of(handle),
            }
        )


def throttled_s(nvml_index: int) -> dict[str, float]:
    """Seconds that power and heat have slowed the GPU down, each counted by the driver since it was loaded.

    Unlike the reasons of a moment, two readings tell of all the time between them. NVML counts in nanoseconds
    (``nvmlViolationTime_t``). Empty where the card does not count.
    """
    policies = {"power cap": pynvml.NVML_PERF_POLICY_POWER, "thermal slowdown": pynvml.NVML_PERF_POLICY_THERMAL}
    seconds = {}
    with nvml() as ready:
        if not ready:
            return {}
        handle = pynvml.nvmlDeviceGetHandleByIndex(nvml_index)
        for reason, policy in policies.items():
            with suppress(pynvml.NVMLError):
                seconds[reason] = pynvml.nvmlDeviceGetViolationStatus(handle, policy).violationTime / 1e9
    return seconds


@dataclass(frozen=True)
class GpuUse:
    """Who uses a GPU.

    ``pids`` are the processes as NVML lists them: in a container often none, or under numbers of the host's.
    ``used_bytes`` is what is in use on the whole device; what the driver reserves for itself is not in it.
    """

    pids: frozenset[int]
    used_bytes: int

    @property
    def in_use(self) -> bool:
        return bool(self.pids) or self.used_bytes > IDLE_BYTES


def gpu_use(nvml_index: int) -> GpuUse | None:
    """Who uses the GPU now; None if that is not told."""
    with nvml() as ready:
        if not ready:
            return None
        handle = pynvml.nvmlDeviceGetHandleByIndex(nvml_index)
        pids: set[int] = set()
        for list_processes in (
            pynvml.nvmlDeviceGetComputeRunningProcesses,
            pynvml.nvmlDeviceGetGraphicsRunningProcesses,
        ):
            with suppress(pynvml.NVMLError):
                pids |= {process.pid for process in list_processes(handle)}
        try:
            return GpuUse(frozenset(pids), _used_bytes(handle))
        except pynvml.NVMLError:
            return None


def _used_bytes(handle: Any) -> int:
    try:
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2).used)
    except pynvml.NVMLError:
        # Drivers before 510 know the first version alone; later ones count in it what they reserve.
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)


def _answers(questions: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    answers = {}
    for name, ask in questions.items():
        with suppress(pynvml.NVMLError):
            answers[name] = ask()
    return answers


def _throttle_reasons_of(handle: Any) -> list[str]:
    return throttle_reasons(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))


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
def nvml() -> Iterator[bool]:
    """Yields whether NVML can be asked. Opening it takes long; within an outer one, an inner one costs nothing."""
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
