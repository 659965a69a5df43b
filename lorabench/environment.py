"""Where results come from: hardware, driver, library versions, git state. Never a host's, a user's or a folder's name.

No torch: what an interpreter runs is told by itself (:mod:`lorabench.interpreter`).
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import psutil

from lorabench import __version__
from lorabench.catalog import DEFAULT_CARD, find_card
from lorabench.errors import DeviceError
from lorabench.interpreter import torch_build
from lorabench.nvml import describe_gpu, gpu_use, visible_gpus

ID_LENGTH = 12


@dataclass(frozen=True)
class EnvironmentDevice:
    """What cases ran on; ``total_bytes`` is the card's memory, or the host's for a CPU."""

    type: Literal["cuda", "cpu", "fake"]
    name: str
    total_bytes: int


PREDICTED_CARD = EnvironmentDevice("fake", DEFAULT_CARD.product, DEFAULT_CARD.total_bytes)
"""What the fake device stands for, as NVML reports it."""


@dataclass(frozen=True)
class Target:
    """A device that is there: ``spec`` names it to a worker (``cuda:0``, ``cpu``, ``fake``)."""

    spec: str
    device: EnvironmentDevice
    nvml_index: int | None = None


@dataclass(frozen=True)
class Git:
    """The commit of the working folder; ``dirty`` when tracked files differ from it."""

    commit: str
    dirty: bool


@dataclass(frozen=True)
class Environment:
    """One line of a results file. Records name it by ``id``, the hash of everything else in it."""

    device: EnvironmentDevice
    driver: str | None
    versions: Mapping[str, str]
    cpu: Mapping[str, Any]
    gpu: Mapping[str, Any]
    os: str
    git: Git | None
    lorabench: str
    id: str = ""
    type: Literal["environment"] = field(default="environment")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def resolve_device(spec: str) -> Target:
    """The device that ``spec`` names: auto, cpu, cuda, cuda:N or fake.

    ``auto`` is the first GPU if there is one and this interpreter's torch was built for it, else the CPU.
    ``fake:CARD`` predicts for a card of :data:`lorabench.catalog.CARDS` with its capacity, ``fake:CARD:BYTES`` with
    another one.

    Raises:
        DeviceError: there is no such device, no such kind of device, or no such card.
    """
    kind, _, number = spec.partition(":")
    if kind == "cuda" and (number.isdecimal() or not number):
        return _cuda_target(int(number or 0))
    if spec == "cpu":
        return _cpu_target()
    if spec == "fake":
        return Target("fake", PREDICTED_CARD)
    if kind == "fake" and number:
        card = find_card(number.partition(":")[0])
        return Target(spec, EnvironmentDevice("fake", card.product, card.total_bytes))
    if spec == "auto":
        return _cuda_target(0) if torch_has_cuda() and visible_gpus() else _cpu_target()
    raise DeviceError(f"--device {spec}: no such device: auto, cpu, cuda, cuda:N or fake would be right")


def resolve_devices(specs: str) -> tuple[Target, ...]:
    """The devices that ``specs`` names with commas between; each as of :func:`resolve_device`.

    Raises:
        DeviceError: one is not there, is named twice, or is of another model than the first.
    """
    targets = tuple(resolve_device(spec.strip()) for spec in specs.split(","))
    first = targets[0]
    for number, target in enumerate(targets):
        if any(target.spec == earlier.spec for earlier in targets[:number]):
            raise DeviceError(
                f"--devices {specs}: {target.spec} twice: cases that share a device spoil each other's times"
            )
        if (target.device.type, target.device.name) != (first.device.type, first.device.name):
            raise DeviceError(
                f"--devices {specs}: {first.spec} is {first.device.name} and {target.spec} is {target.device.name}: "
                "name devices of one model, for the numbers of two are not mixed"
            )
    return targets


def _cpu_target() -> Target:
    return Target("cpu", EnvironmentDevice("cpu", cpu_name(), psutil.virtual_memory().total))


def _cuda_target(index: int) -> Target:
    gpus = visible_gpus()
    if index >= len(gpus):
        there = ", ".join(f"cuda:{gpu.index} ({gpu.name})" for gpu in gpus) or "none: choose --device cpu or fake"
        raise DeviceError(f"--device cuda:{index}: no such GPU; there is {there}")
    gpu = gpus[index]
    return Target(f"cuda:{index}", EnvironmentDevice("cuda", gpu.name, gpu.total_bytes), gpu.nvml_index)


def torch_has_cuda() -> bool:
    """Whether this interpreter's torch was built for CUDA."""
    return "cuda" in torch_build()


def describe_environment(target: Target, interpreter: Mapping[str, Any]) -> Environment:
    """The environment of cases on ``target``; ``interpreter`` is what :mod:`lorabench.interpreter` told of theirs."""
    gpu = {} if target.nvml_index is None else _describe_gpu(target.nvml_index)
    environment = Environment(
        device=target.device,
        driver=gpu.pop("driver", None),
        versions=interpreter["versions"],
        cpu={**describe_cpu(), "torch_threads": interpreter["torch_threads"]},
        gpu=gpu,
        os=describe_os(),
        git=describe_git(),
        lorabench=__version__,
    )
    content = {name: value for name, value in environment.to_dict().items() if name != "id"}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return replace(environment, id=digest[:ID_LENGTH])


def _describe_gpu(nvml_index: int) -> dict[str, Any]:
    # The number tells apart GPUs of one model, whose records stand in one file.
    gpu = {"number": nvml_index, **describe_gpu(nvml_index)}
    use = gpu_use(nvml_index)
    if use is not None and use.in_use:
        gpu["others"] = {"processes": len(use.pids), "used_bytes": use.used_bytes}
    return gpu


def cpu_name() -> str:
    """The processor's model name as the kernel gives it; the machine type where it gives none (some ARM systems)."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return " ".join(value.split())
    return platform.processor() or platform.machine()


def describe_cpu() -> dict[str, Any]:
    return {
        "name": cpu_name(),
        "cores": psutil.cpu_count(logical=False),
        "threads": psutil.cpu_count(logical=True),
        "usable_threads": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
    }


def describe_os() -> str:
    """Distribution and kernel version. What a vendor appends to the version names a platform: it is left out."""
    try:
        distribution = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        distribution = platform.system()
    version = re.match(r"\d+(\.\d+){0,2}", platform.release())
    return f"{distribution}, kernel {version.group()}" if version else distribution


def describe_git(folder: Path | None = None) -> Git | None:
    """The state of the repository around ``folder`` (the working folder); None outside of one or without git."""
    commit = _git("rev-parse", "HEAD", folder=folder)
    if commit is None:
        return None
    # Results files lie in the working folder: what git does not track says nothing about the code.
    changes = _git("status", "--porcelain", "--untracked-files=no", folder=folder)
    return Git(commit, dirty=bool(changes))


def _git(*arguments: str, folder: Path | None) -> str | None:
    command = ["git", "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
