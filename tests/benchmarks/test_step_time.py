"""The step time that a record quotes is that of a bare loop over the same model."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from scipy import stats

from lorabench.case import Case
from lorabench.environment import resolve_device
from lorabench.runner.launcher import Work
from lorabench.runner.local import LocalLauncher

PAIRS = 30
LOW, HIGH = 0.97, 1.03


@pytest.mark.slow
def test_step_time_is_that_of_a_bare_loop(benchmark, case, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    bare = replace(case, scenario="bare")
    log_ratios: list[float] = []
    with LocalLauncher(resolve_device("cpu"), server_options=["--worker", "bare:run_job"]) as launcher:

        def step_s(case: Case) -> float:
            [record] = launcher.run([Work((case,))])
            assert record.status == "ok", record.error
            return record.latency["step"].median_s

        def pair() -> None:
            # In turn, so that a drift of the machine favours neither.
            order = (case, bare) if len(log_ratios) % 2 else (bare, case)
            seconds = {measured.scenario: step_s(measured) for measured in order}
            log_ratios.append(math.log(seconds[case.scenario] / seconds[bare.scenario]))

        benchmark.pedantic(pair, rounds=PAIRS)
    interval = stats.ttest_1samp(log_ratios, 0).confidence_interval(0.95)
    low, high = math.exp(interval.low), math.exp(interval.high)
    benchmark.extra_info["ratio_to_a_bare_loop_ci95"] = [low, high]
    assert LOW <= low <= high <= HIGH
