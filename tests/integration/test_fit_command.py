"""``lorabench fit`` and ``predict --gpu`` from the command line to what they print, on real predictions."""

from __future__ import annotations

import json
from functools import partial

import pytest
from command_line import lorabench_in

from lorabench.case import Case
from lorabench.catalog import CARDS
from lorabench.fitting.largest import find_largest

SCENARIO = """\
scenario: room
question: What fits?
task: train
model: llama-tiny
sequence_length: 64
matrix:
  adapter.rank: [4, 8]
  batch_size: [1, 2]
"""


@pytest.fixture
def cli(tmp_path):
    (tmp_path / "room.yaml").write_text(SCENARIO)

    return partial(lorabench_in, tmp_path)


def test_the_largest_rank_is_found_for_each_combination(cli) -> None:
    # Ranks end at the smallest dimension: 4 key and value heads of 32.
    done = cli("fit", "room.yaml", "--gpu", "L4", "--over", "adapter.rank", "--json")
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["name"] for answer in answers] == ["room[batch_size=1]", "room[batch_size=2]"]
    for answer in answers:
        assert (answer["gpu"], answer["over"], answer["largest"]) == ("L4", "adapter.rank", 128)
        assert answer["stopped_by"] == "limit"
        assert "128" in answer["reason"]
        assert answer["headroom_bytes"] == answer["usable_bytes"] - answer["reserved_bytes"] > 0
        assert [prediction["value"] for prediction in answer["predictions"]] == [1, 64, 128]
    assert len(done.stderr.splitlines()) == 6


def test_a_margin_decides_where_memory_stops_it(cli) -> None:
    # 20 MiB less than all but 150 MiB: a handful of rows.
    usable = CARDS["L4"].usable_bytes("bf16")
    done = cli(
        *(
            "fit",
            "room.yaml",
            "--gpu",
            "L4",
            "--margin",
            f"{usable - (150 << 20)}B",
            "-k",
            "adapter.rank=4",
            "--json",
            "-q",
        )
    )
    assert (done.returncode, done.stderr) == (0, "")
    [answer] = map(json.loads, done.stdout.splitlines())
    assert answer["stopped_by"] == "memory"
    assert answer["reserved_bytes"] <= 150 << 20
    tried = {prediction["value"]: prediction["status"] for prediction in answer["predictions"]}
    assert (tried[answer["largest"]], tried[answer["largest"] + 1], tried[65_536]) == ("ok", "oom", "oom")


def test_a_search_does_not_ask_what_its_bytes_are() -> None:
    records = []
    case = Case("room", "train", "llama-tiny", sequence_length=64)
    [answer] = find_largest([case], CARDS["L4"], "adapter.rank", on_probe=lambda _, record: records.append(record))
    assert answer.largest == 128
    for record in records:
        assert record.memory.categories == {}
        assert "attribution" not in record.observations["stages_s"]


def test_what_cannot_be_predicted_is_told_in_the_table(cli) -> None:
    done = cli("fit", "room.yaml", "--gpu", "T4", "-q")
    assert done.returncode == 4
    assert "the largest batch_size that fits T4" in done.stdout
    assert done.stdout.count("no bf16 tensor cores") == 2


def test_predict_for_a_card_tells_whether_it_fits(cli, tmp_path) -> None:
    done = cli("predict", "room.yaml", "--gpu", "rtx4090", "-k", "batch_size=1", "--out", "out.jsonl", "-q")
    assert done.returncode == 0, done.stderr
    assert "predicted for NVIDIA GeForce RTX 4090" in done.stdout
    assert "headroom" in done.stdout
    assert "assumed: " in done.stdout
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()][1:]
    assert len(records) == 2
    for record in records:
        assert record["observations"]["fits"]["fits"] is True
        assert record["device"] == {"type": "fake", "name": "NVIDIA GeForce RTX 4090"}
