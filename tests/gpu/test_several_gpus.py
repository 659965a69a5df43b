"""Several GPUs of one machine: each has a server of its own, and none sees the others' cases."""

from __future__ import annotations

from datetime import datetime
from itertools import combinations, pairwise, product
from pathlib import Path

import pytest

from lorabench.case import Case, Measure
from lorabench.nvml import visible_gpus
from lorabench.results import Results, read_results
from lorabench.runner.run import run

GPUS = visible_gpus()

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(len(GPUS) < 2, reason="one GPU is not several")]

CASES_EACH = 3
CLOCKS_DIFFER_S = 0.05
"""A case's length is of the monotonic clock, its start of the calendar's."""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Of cases that differ by their seed alone."""
    out: Path = tmp_path_factory.mktemp("several") / "results.jsonl"
    measure = Measure(warmup=1, steps=8)
    settings = {"task": "train", "model": "llama-3.2-1b", "batch_size": 4, "measure": measure}
    cases = [Case("several", seed=seed, **settings) for seed in range(CASES_EACH * len(GPUS))]  # type: ignore[arg-type]
    records = list(run(cases, device=",".join(f"cuda:{gpu.index}" for gpu in GPUS), out=out))
    assert [record.error for record in records] == [None] * len(cases)
    return read_results(out)


def by_gpu(results: Results) -> dict[int, list[tuple[float, float]]]:
    """When each GPU's cases began and ended, in order."""
    spans: dict[int, list[tuple[float, float]]] = {}
    for record in results.records:
        number = results.environments[record.environment].gpu["number"]
        began_s = datetime.fromisoformat(record.started_at).timestamp()
        spans.setdefault(number, []).append((began_s, began_s + record.wall_s))
    return {number: sorted(its) for number, its in spans.items()}


def test_every_gpu_runs_cases(results: Results) -> None:
    assert by_gpu(results).keys() == {gpu.nvml_index for gpu in GPUS}


def test_one_case_a_gpu_at_a_time(results: Results) -> None:
    for spans in by_gpu(results).values():
        for (_, ended_s), (began_s, _) in pairwise(spans):
            assert ended_s <= began_s + CLOCKS_DIFFER_S


def test_cases_of_several_gpus_run_at_the_same_time(results: Results) -> None:
    for first, second in combinations(by_gpu(results).values(), 2):
        assert any(max(one[0], other[0]) < min(one[1], other[1]) for one, other in product(first, second))


def test_bytes_are_the_same_on_each(results: Results) -> None:
    assert len({record.memory and record.memory.peak_allocated_bytes for record in results.records}) == 1


def test_the_others_cases_are_no_neighbours(results: Results) -> None:
    for record in results.records:
        assert not [text for text in record.observations.get("warnings", []) if "something else" in text]
