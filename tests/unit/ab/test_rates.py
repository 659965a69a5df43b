from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest

from lorabench.ab.rates import draw, labels, main, rates, read_pool
from lorabench.analysis.paired import Rules

HEADER = {
    "type": "pool",
    "key": "0",
    "case": {"model": "llama-tiny", "quantization": "fp32", "batch_size": 1, "sequence_length": 64},
    "environment": {"device": {"type": "cpu", "name": "Imaginary CPU"}},
}


def write_pool(path: Path, batches: int, effects: dict[float, float], spread: float = 0.01) -> Path:
    """A pool whose samples of a kind are slower by its effect, four of each kind in a batch."""
    lot = random.Random(1)
    lines: list[dict[str, object]] = [HEADER]
    for batch in range(batches):
        kinds = [kind for kind in effects for _ in range(4)]
        lot.shuffle(kinds)
        for position, kind in enumerate(kinds):
            step_s = 0.02 * math.exp(lot.gauss(0, spread)) * (1 + effects[kind])
            lines.append({"type": "sample", "batch": batch, "position": position, "slow": kind, "step_s": step_s})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_identical_code_raises_no_alarms_and_a_slowdown_is_caught(tmp_path):
    pool = read_pool(write_pool(tmp_path / "pool.jsonl", 40, {0.0: 0.0, 0.1: 0.1}))
    same, slowed = rates(pool, 0.0, 300, Rules()), rates(pool, 0.1, 300, Rules())
    assert same.verdicts["slower"] + same.verdicts["faster"] <= 3
    assert same.verdicts["equivalent"] >= 290
    assert slowed.verdicts["slower"] == 300
    assert all(pairs <= Rules().pairs for pairs in (*same.pairs, *slowed.pairs))


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_run_takes_each_sample_once(tmp_path, shuffled):
    pool = read_pool(write_pool(tmp_path / "pool.jsonl", 5, {0.0: 0.0, 0.1: 0.1}))
    ratios = list(draw(pool, 0.1, random.Random(0), shuffled))
    assert len(ratios) == len(set(ratios)) == 20
    total = sum(map(math.log, pool.values(0.1))) - sum(map(math.log, pool.values(0.0)))
    assert sum(ratios) == pytest.approx(total)
    assert len(list(draw(pool, 0.0, random.Random(0), shuffled))) == 10


def test_labels_are_balanced_in_blocks():
    drawn = labels(random.Random(0))
    assert all(sum(next(drawn) for _ in range(4)) == 0 for _ in range(50))


def test_the_table_is_the_same_for_the_same_seed(tmp_path, capsys):
    path = write_pool(tmp_path / "pool.jsonl", 8, {0.0: 0.0, 0.05: 0.05})
    printed = []
    for _ in range(2):
        main([str(path), "--runs", "20"])
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    header, rule, same, slowed = printed[0].splitlines()
    assert header.count("|") == rule.count("|") == same.count("|") == slowed.count("|")
    assert "| none (A/A) |" in same
    assert "| 5% |" in slowed
