"""``lorabench trace``: one case, and what its bytes at the peak are."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from command_line import lorabench_in

TRAINING = """\
scenario: ranks
question: What does a higher rank cost?
task: train
model: llama-tiny
sequence_length: 16
matrix:
  adapter.rank: [4, 8]
"""
LIFE = "scenario: lives\nquestion: What is left?\ntask: lifecycle\nmodel: llama-tiny\n"


@pytest.fixture
def trace(tmp_path: Path) -> Any:
    """Runs ``lorabench trace`` on both scenarios, in their folder."""
    (tmp_path / "ranks.yaml").write_text(TRAINING)
    (tmp_path / "lives.yaml").write_text(LIFE)

    return partial(lorabench_in, tmp_path, "trace", "ranks.yaml", "lives.yaml", "--device", "cpu")


def test_a_case_is_told_by_category_layer_and_tensor(trace: Any) -> None:
    done = trace("-k", "rank=8", "-q")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("ranks[adapter.rank=8] on ")
    assert "MiB allocated, in " in lines[1]
    starts = [line.split("  ")[0] for line in lines]
    for name in ("base weights", "adapter weights", "unattributed", "model.layers.3", "lm_head"):
        assert name in starts
    assert ["unattributed", "0.0", "0.0%"] in [line.split() for line in lines]


def test_as_json_it_is_a_record_without_times(trace: Any) -> None:
    done = trace("-k", "rank=4", "--json")
    [line] = done.stdout.splitlines()
    record = json.loads(line)
    assert (record["status"], record["latency"]) == ("ok", {})
    assert sum(record["memory"]["categories"].values()) == record["memory"]["peak_allocated_bytes"]
    assert record["observations"]["attribution"]["timeline"]["operators"] > 100


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-k", "ranks"), "trace follows one case, and 2 match: ranks[adapter.rank=4], ranks[adapter.rank=8]"),
        (("-k", "rank=4", "--snapshot", "a.pickle"), "--snapshot: PyTorch records its memory on CUDA alone"),
        (("-k", "lives"), "a lifecycle has no steady step to follow"),
    ],
)
def test_what_cannot_be_traced_is_refused_in_one_line(trace: Any, arguments: tuple[str, ...], words: str) -> None:
    done = trace(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert words in line
