"""What only reads starts at once. Each command in pairs with ``import torch``, so that a slow machine slows both."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import pytest

SCENARIOS = Path(__file__).parents[2] / "scenarios"
LIMIT = 1 / 3
PAIRS = 7


def seconds(*command: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


@pytest.fixture
def results(tmp_path, environment, make_record) -> str:
    path = tmp_path / "results.jsonl"
    lines = [environment, *(make_record(seed=seed) for seed in range(100))]
    path.write_text("".join(json.dumps(line.to_dict()) + "\n" for line in lines))
    return str(path)


@pytest.mark.parametrize("command", ["--help", "list", "show"])
def test_start_takes_a_third_of_importing_torch(benchmark, command, results):
    arguments = {"--help": [], "list": [str(SCENARIOS)], "show": [results]}[command]
    imports_s: list[float] = []
    benchmark.pedantic(
        lambda: seconds("-m", "lorabench", command, *arguments),
        setup=lambda: imports_s.append(seconds("-c", "import torch")),
        rounds=PAIRS,
        # The first run reads from the disk what the others find in memory.
        warmup_rounds=1,
    )
    pairs = zip(benchmark.stats.stats.data, imports_s[-PAIRS:], strict=True)
    ratio = median(command_s / import_s for command_s, import_s in pairs)
    benchmark.extra_info["share_of_importing_torch"] = ratio
    assert ratio <= LIMIT
