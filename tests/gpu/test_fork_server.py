"""The fork server on a GPU: it leaves CUDA alone, and its children have all of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lorabench.case import Case, Measure
from lorabench.environment import resolve_device
from lorabench.runner.launcher import Work
from lorabench.runner.local import LocalLauncher

pytestmark = pytest.mark.gpu


def work(behaviour):
    return Work((Case(behaviour, "train", "llama-tiny", measure=Measure(timeout_s=120)),))


@pytest.fixture(scope="module", params=["fork", "spawn"])
def launcher(request):
    options = ["--worker", "cuda_workers:run_job", *(["--spawn"] if request.param == "spawn" else [])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        with LocalLauncher(resolve_device("cuda"), server_options=options) as launcher:
            assert launcher.environment
            launcher.expected_start = request.param
            yield launcher


def test_the_server_forks_after_its_imports(launcher):
    hello = launcher._server.hello
    assert hello["start"] == launcher.expected_start, hello["reason"]
    assert hello["not_preloaded"] == []


def test_the_server_holds_no_context(launcher):
    """A context maps the unified-memory device; NVML does not."""
    maps = Path(f"/proc/{launcher._server.pid}/maps").read_text()
    assert "nvidia-uvm" not in maps


def test_a_child_has_cuda_and_bitsandbytes_own_kernels(launcher):
    from lorabench.nvml import visible_gpus

    for record in launcher.run([work("look-around")] * 2):
        assert record.status == "ok", record.error
        seen = record.observations
        # A fresh interpreter imports bitsandbytes, which asks CUDA for the device: no harm, for it forks nothing.
        assert seen["fresh"] or launcher.expected_start == "spawn"
        assert seen["kernels_registered"]
        assert seen["library"] == "CudaBNBNativeLibrary"
        assert seen["equal"]
        # The default kernel multiplies in torch; bitsandbytes' own calls cuBLASLt itself.
        assert not {"aten::mm", "aten::matmul", "aten::_int_mm"} & set(seen["operators"])
        assert ".".join(map(str, seen["capability"])) == launcher.environment.gpu["compute_capability"]
    assert record.device.name == visible_gpus()[0].name


@pytest.mark.parametrize(
    ("opener", "reason"),
    [
        ("opens_cuda", "CUDA was initialised in torch by an import"),
        ("opens_driver", "CUDA's driver was initialised by an import"),
    ],
    ids=["torch", "driver"],
)
def test_a_server_in_which_an_import_opened_cuda_spawns_by_itself(opener, reason, monkeypatch):
    """Nothing asks it to: it sees a CUDA that is really open. A child forked from there could not use it."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    options = ["--worker", "cuda_workers:run_job", "--preload", f"torch,{opener}"]
    with LocalLauncher(resolve_device("cuda"), server_options=options) as launcher:
        records = list(launcher.run([work("look-around")] * 2))
        hello = launcher._server.hello
    assert hello["start"] == "spawn"
    assert hello["reason"] == reason
    assert hello["not_preloaded"] == []
    for record in records:
        assert record.status == "ok", record.error
        assert record.observations["kernels_registered"]
        assert record.observations["equal"]


def test_a_spoilt_cuda_ends_its_child_alone(launcher):
    spoilt, after = launcher.run([work("spoil-cuda"), work("look-around")])
    assert spoilt.status == "failed"
    assert spoilt.error.type == "AcceleratorError"
    assert "device-side assert" in spoilt.error.message
    assert "\n" not in spoilt.error.message
    assert spoilt.error.phase == "forward"
    assert spoilt.memory is None
    assert spoilt.latency == {}
    assert after.status == "ok", after.error


def test_out_of_memory_is_an_oom(launcher):
    full, after = launcher.run([work("use-up-memory"), work("look-around")])
    assert full.status == "oom"
    assert full.error.type == "OutOfMemoryError"
    assert full.error.phase == "backward"
    assert after.status == "ok", after.error


def test_the_environment_describes_the_gpu(launcher):
    environment = launcher.environment
    assert environment.driver
    assert environment.versions["cuda"]
    assert environment.gpu["power_limit_w"] > 0
