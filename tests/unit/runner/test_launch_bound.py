"""A case that cannot be profiled stays measured, and its record says why it has no launch-bound share."""

from __future__ import annotations

from typing import Any, cast

import pytest

from lorabench.device.protocol import Device
from lorabench.runner import worker
from lorabench.runner.telling import HeldBack, Stages, Teller
from lorabench.workload.protocol import Workload


class Cuda:
    type = "cuda"


def launch_bound(told: list[str]) -> dict[str, Any]:
    device, workload = cast(Device, Cuda()), cast(Workload, object())
    return worker._launch_bound(workload, device, Teller(HeldBack(None)), {"step": [0.1]}, Stages(), told.append)


def test_what_keeps_the_profiler_from_seeing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> dict[str, Any]:
        raise RuntimeError("CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA`")

    monkeypatch.setattr(worker, "launch_pass", full)
    told: list[str] = []
    assert launch_bound(told) == {}
    assert told == ["no launch-bound share: RuntimeError: CUDA error: out of memory Compile with `TORCH_USE_CUDA_DSA`"]


def test_shares_are_an_observation(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = {"step": {"gpu_busy_share": 0.25, "launch_bound_share": 0.75, "gpu_busy_s": 0.025}}
    monkeypatch.setattr(worker, "launch_pass", lambda *_: shares)
    told: list[str] = []
    assert launch_bound(told) == {"launch_bound": shares}
    assert told == []
