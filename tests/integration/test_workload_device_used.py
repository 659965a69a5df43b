"""A record with the driver's bytes says what they are of, whatever became of the case."""

from __future__ import annotations

from typing import Any

import pytest
from in_process import LLAMA, measure, write_config

from lorabench.case import Case, Measure
from lorabench.device.cpu import CpuDevice
from lorabench.workload.training import Training

USED_BYTES = 12_345


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_config(tmp_path_factory.mktemp("model"), "llama", LLAMA)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: what is told is known once it has been asked for."""

    def used(device: CpuDevice) -> int:
        monkeypatch.setattr(device, "device_used_of", "process", raising=False)
        return USED_BYTES

    monkeypatch.setattr(CpuDevice, "device_used_bytes", used)


def result_of(model: str, task: Any) -> Any:
    case = Case("s", task, model, quantization="fp32", sequence_length=16, measure=Measure(warmup=1, steps=2))
    [result] = measure(case)
    return result


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("task", ["train", "infer", "lifecycle"])
def test_of_what_the_used_bytes_are(model: str, task: str) -> None:
    result = result_of(model, task)
    assert result["status"] == "ok", result["error"]
    assert result["memory"]["device_used_bytes"] == USED_BYTES
    assert result["observations"]["device_used_of"] == "process"


@pytest.mark.usefixtures("driver")
def test_of_what_they_are_where_memory_runs_out(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(Training, "step", fill)
    result = result_of(model, "train")
    assert result["status"] == "oom"
    assert result["memory"]["device_used_bytes"] == USED_BYTES
    assert result["observations"]["device_used_of"] == "process"


def test_without_a_driver_nothing_is_said(model: str) -> None:
    result = result_of(model, "train")
    assert result["memory"]["device_used_bytes"] is None
    assert "device_used_of" not in result["observations"]
