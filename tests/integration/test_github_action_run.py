"""The action's script with the real command behind it: a prediction, a baseline, and a byte too many."""

from __future__ import annotations

import json
import os
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from command_line import lorabench_in
from github_action import run_step

SCENARIO = """\
scenario: step
question: What does a step hold?
task: train
model: llama-tiny
sequence_length: 64
"""


@pytest.mark.slow
def test_a_regression_fails_the_step_with_everything_written(tmp_path: Path) -> None:
    (tmp_path / "step.yaml").write_text(SCENARIO)
    variables = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PATHS": "step.yaml",
        "BASELINE": "baseline.jsonl",
    }
    first = run_step("Predict and gate", tmp_path, variables)
    assert first.returncode == 3, first.stderr
    results = tmp_path / "lorabench-gate" / "results.jsonl"
    updated = lorabench_in(tmp_path, "gate", str(results), "--baseline", "baseline.jsonl", "--update")
    assert updated.returncode == 0, updated.stderr
    lines = [json.loads(line) for line in (tmp_path / "baseline.jsonl").read_text().splitlines()]
    for line in lines:
        if line["type"] == "record":
            line["memory"]["static_bytes"] -= 1
    (tmp_path / "baseline.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "outputs").unlink()
    worse = run_step("Predict and gate", tmp_path, variables)
    assert worse.returncode == 1, worse.stderr
    outputs = dict(line.split("=", 1) for line in (tmp_path / "outputs").read_text().splitlines())
    assert outputs["exit-code"] == "1"
    assert ET.parse(tmp_path / outputs["junit"]).find(".//failure") is not None
    assert (tmp_path / outputs["markdown"]).read_text() in (tmp_path / "summary.md").read_text()
