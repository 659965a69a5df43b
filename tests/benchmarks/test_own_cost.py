"""The bench's own cost: what a case takes beyond building, warm-up, timed steps and accounting."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import pytest

from lorabench.environment import resolve_device
from lorabench.runner.run import run

LIMIT_S = {"cpu": 0.5, "cuda": 1.5}
CASES = 8


@pytest.mark.slow
def test_own_cost_of_a_case(benchmark, case, device, tmp_path):
    cases = [replace(case, seed=seed) for seed in range(CASES + 1)]
    with closing(run(cases, device=device, out=tmp_path / "results.jsonl")) as records:
        # The server imports torch once, before the first case.
        assert next(records).status == "ok"
        measured = []
        benchmark.pedantic(lambda: measured.append(next(records)), rounds=CASES)
    assert [record.status for record in measured] == ["ok"] * CASES
    stages_s = [sum(record.observations["stages_s"].values()) for record in measured]
    costs_s = [whole_s - part_s for whole_s, part_s in zip(benchmark.stats.stats.data, stages_s, strict=True)]
    benchmark.extra_info["device"] = resolve_device(device).device.name
    benchmark.extra_info["own_cost_s"] = costs_s
    assert max(costs_s) <= LIMIT_S[device]
