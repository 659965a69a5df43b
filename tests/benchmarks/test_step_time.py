"""The step time that a record quotes is that of a bare loop over the same model."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
from scipy import stats

from lorabench.case import Case
from lorabench.environment import resolve_device
from lorabench.runner.launcher import Work
from lorabench.runner.local import LocalLauncher

PAIRS = 30
WITHIN = {"cpu": 0.03, "cuda": 0.01}
"""Of the bare loop's time. A CPU shares its clock and caches with more than the case."""


def trimmed_mean(log_ratios, axis=-1):
    """Without the fifth at either end: now and then a shared machine halves its speed for one process of a pair."""
    return stats.trim_mean(log_ratios, 0.2, axis=axis)


@pytest.mark.slow
def test_step_time_is_that_of_a_bare_loop(benchmark, case, device, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    # Two threads on two hardware threads of one core run at either of two speeds, from process to process.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    bare = replace(case, scenario="bare")
    log_ratios: list[float] = []
    with LocalLauncher(resolve_device(device), server_options=["--worker", "bare:run_job"]) as launcher:

        def step_s(case: Case) -> float:
            [record] = launcher.run([Work((case,))])
            assert record.status == "ok", record.error
            return record.latency["step"].median_s

        def pair() -> None:
            # In turn, so that a drift of the machine favours neither.
            order = (case, bare) if len(log_ratios) % 2 else (bare, case)
            seconds = {measured.scenario: step_s(measured) for measured in order}
            log_ratios.append(math.log(seconds[case.scenario] / seconds[bare.scenario]))

        # The first process of a machine reads kernels from disk.
        step_s(case)
        benchmark.pedantic(pair, rounds=PAIRS)
        benchmark.extra_info["device"] = launcher.environment.device.name
        benchmark.extra_info["versions"] = dict(launcher.environment.versions)
    interval = stats.bootstrap((log_ratios,), trimmed_mean, confidence_level=0.95, rng=0).confidence_interval
    low, high = math.exp(interval.low), math.exp(interval.high)
    benchmark.extra_info["ratio_to_a_bare_loop_ci95"] = [low, high]
    benchmark.extra_info["ratios"] = [math.exp(ratio) for ratio in log_ratios]
    assert 1 - WITHIN[device] <= low <= high <= 1 + WITHIN[device]
