"""``lorabench predict --estimates`` from the command line to the records."""

from __future__ import annotations

from functools import partial

import pytest
from command_line import lorabench_in

from lorabench.results import read_results

SCENARIO = """\
scenario: tiny
question: What do other methods say?
task: train
model: llama-tiny
sequence_length: 64
matrix:
  quantization: [bf16, int8]
"""
METHODS = ["accelerate_weights", "accelerate_training", "memory_tracker", "arithmetic"]


@pytest.fixture
def cli(tmp_path):
    (tmp_path / "tiny.yaml").write_text(SCENARIO)
    return partial(lorabench_in, tmp_path)


def predicted(cli, tmp_path, *options: str):
    done = cli("predict", "tiny.yaml", "--out", "out.jsonl", "--force", *options)
    assert done.returncode == 0, done.stderr
    return {record.case["quantization"]: record for record in read_results(tmp_path / "out.jsonl").latest()}


def test_estimates_are_asked_for_and_change_no_prediction(cli, tmp_path):
    plain = predicted(cli, tmp_path)
    with_them = predicted(cli, tmp_path, "--estimates")
    on_a_card = predicted(cli, tmp_path, "--estimates", "--gpu", "H100")
    assert "estimates" not in plain["bf16"].observations
    for quantization, record in with_them.items():
        assert record.memory == plain[quantization].memory
        assert list(record.observations["estimates"]) == METHODS
        assert record.observations["estimates"] == on_a_card[quantization].observations["estimates"]
        assert on_a_card[quantization].observations["fits"]["fits"]
    assert with_them["int8"].observations["estimates"]["accelerate_training"] == {
        "absent": "no number for training in int8"
    }
    assert all(told["peak_bytes"] > 0 for told in with_them["bf16"].observations["estimates"].values())
