"""One case followed alone: what its bytes at the peak are, and PyTorch's own snapshot of a step."""

from __future__ import annotations

from pathlib import Path

from lorabench.case import Case
from lorabench.environment import Target
from lorabench.errors import InputError
from lorabench.record import Record
from lorabench.runner.launcher import Progress
from lorabench.runner.local import LocalLauncher


def trace(
    case: Case,
    target: Target,
    *,
    snapshot: Path | None = None,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> Record:
    """The record of ``case`` on ``target``, without times; nothing is written but ``snapshot``.

    Raises:
        InputError: the case has no step to follow, or there can be no snapshot there.
        DeviceError: the device cannot be used.
    """
    if case.task == "lifecycle":
        raise InputError(f"{case.name}: a lifecycle has no steady step to follow; trace a training or inference case")
    if snapshot is not None:
        _check(snapshot, target.device.type)
    with LocalLauncher(target, trust_remote_code=trust_remote_code, progress=progress) as launcher:
        # The worker has a working directory of its own.
        return launcher.trace(case, None if snapshot is None else str(snapshot.resolve()))


def _check(snapshot: Path, device_type: str) -> None:
    if device_type != "cuda":
        raise InputError(
            f"--snapshot: PyTorch records its memory on CUDA alone, and this is {device_type}: leave it out"
        )
    if snapshot.exists():
        raise InputError(f"--snapshot {snapshot}: exists already; name another file")
    if not snapshot.resolve().parent.is_dir():
        raise InputError(f"--snapshot {snapshot}: there is no such folder")
