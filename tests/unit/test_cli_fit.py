"""What ``lorabench fit`` and ``predict --gpu`` refuse."""

from __future__ import annotations

from functools import partial

import pytest
from command_line import lorabench_in

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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit", "room.yaml"], ["--gpu"]),
        (["fit", "room.yaml", "--gpu", "T5"], ["T5", "T4", "V100-16", "B200"]),
        (["predict", "room.yaml", "--gpu", "A100"], ["A100", "A100-40", "A100-80"]),
        (["fit", "room.yaml", "--gpu", "T4", "--over", "rank"], ["rank", "adapter.rank"]),
        (["fit", "room.yaml", "--gpu", "T4", "--margin", "lots"], ["--margin", "2GiB"]),
        (["fit", "room.yaml", "--gpu", "L4", "--set", "batch_size=4"], ["--set batch_size", "--over"]),
        (["fit", "room.yaml", "--gpu", "L4", "--set", "adapter=none", "--over", "adapter.rank"], ["adapter"]),
        (["fit", "nothing.yaml", "--gpu", "L4"], ["nothing.yaml"]),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(cli, arguments: list[str], words: list[str]) -> None:
    done = cli(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert all(word in done.stderr for word in words), done.stderr
