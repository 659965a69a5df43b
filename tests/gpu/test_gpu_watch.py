"""What the driver says of the GPU around a case."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from cuda_workers import hold_gpu

from lorabench.case import Case, Measure
from lorabench.environment import resolve_device
from lorabench.nvml import IDLE_BYTES, gpu_use
from lorabench.runner.launcher import NoProgress, Work
from lorabench.runner.local import LocalLauncher
from lorabench.runner.watch import GONE_WITHIN_S

pytestmark = pytest.mark.gpu
HELD_BYTES = 512 << 20


class Told(NoProgress):
    def __init__(self):
        self.warnings = []

    def warning(self, text):
        self.warnings.append(text)


def work(behaviour):
    return Work((Case(behaviour, "train", "llama-tiny", measure=Measure(timeout_s=120)),))


@pytest.fixture
def target():
    target = resolve_device("cuda")
    before = gpu_use(target.nvml_index)
    assert not before.in_use, f"the GPU must be free for these tests: {before}"
    return target


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def launcher(target, told, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    options = ["--worker", "cuda_workers:run_job"]
    with LocalLauncher(target, server_options=options, progress=told) as launcher:
        yield launcher


@pytest.fixture
def neighbour(target):
    process = hold_gpu()
    yield process
    process.kill()
    process.wait()
    wait_until_free(target)


def wait_until_free(target):
    deadline = time.monotonic() + 10
    while gpu_use(target.nvml_index).in_use and time.monotonic() < deadline:
        time.sleep(0.1)


def test_a_child_is_gone_before_its_record_comes(launcher, target, told):
    for record in launcher.run([work("hold-memory"), work("spoil-cuda"), work("use-up-memory"), work("look-around")]):
        use = gpu_use(target.nvml_index)
        assert not use.pids, record.name
        assert use.used_bytes <= IDLE_BYTES, record.name
        assert "left_bytes" not in record.observations.get("device", {})
    assert told.warnings == []


def test_the_state_after_the_timed_pass_is_that_of_a_busy_gpu(launcher):
    [record] = launcher.run([work("multiply")])
    state = record.observations["device"]
    assert launcher.environment.gpu["max_sm_clock_mhz"] / 2 < state["sm_clock_mhz"]
    assert state["sm_clock_mhz"] <= launcher.environment.gpu["max_sm_clock_mhz"]
    assert state["memory_clock_mhz"] > 0
    assert 10 < state["temperature_c"] < 100
    assert 50 < state["power_w"] <= 1.1 * launcher.environment.gpu["power_limit_w"]
    # Counted throttling cannot have taken longer than the pass: the counters' unit is what their reader takes it for.
    pass_s = sum(record.latency["step"].samples_s)
    assert all(0 <= seconds <= 1.5 * pass_s + 0.5 for seconds in state.get("throttled_s", {}).values())


def test_a_neighbour_is_told(neighbour, launcher, told):
    records = list(launcher.run([work("look-around")] * 2))
    others = launcher.environment.gpu["others"]
    assert others["used_bytes"] > HELD_BYTES
    for record in records:
        assert any("something else used the GPU" in text for text in record.observations["warnings"])
    assert len([text for text in told.warnings if "something else" in text]) == 1


def test_a_free_gpu_has_no_others(launcher):
    assert "others" not in launcher.environment.gpu


def test_what_a_child_leaves_on_the_gpu_is_told_and_does_not_stop_the_run(launcher, target, told):
    records = launcher.run([work("leave-behind"), work("look-around")])
    started = time.monotonic()
    left = next(records)
    try:
        assert left.observations["device"]["left_bytes"] > HELD_BYTES
        assert any("stayed in use" in text for text in left.observations["warnings"])
        assert any("stayed in use" in text for text in told.warnings)
        assert time.monotonic() - started > GONE_WITHIN_S
        assert next(records).status == "ok"
    finally:
        os.kill(left.observations["left_pid"], signal.SIGKILL)
        wait_until_free(target)
