"""``lorabench compare`` and ``export`` as commands: what goes to which stream, and exit 0 whatever is shown."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import pytest
from command_line import lorabench_in

from lorabench.environment import EnvironmentDevice
from lorabench.record import Memory, RecordDevice


@pytest.fixture
def cli(tmp_path, environment, make_record, failed_record):
    gpu = replace(environment, id="f" * 12, device=EnvironmentDevice("cuda", "A GPU", 80 << 30))
    grown = make_record(environment=gpu.id, device=RecordDevice("cuda", "A GPU"), memory=Memory(1, 2, 3))
    for name, lines in (("a", (environment, make_record(), failed_record)), ("b", (gpu, grown))):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line.to_dict()) + "\n" for line in lines))
    return partial(lorabench_in, tmp_path)


def test_other_hardware_is_said_at_the_top_and_not_refused(cli):
    done = cli("compare", "a.jsonl", "b.jsonl")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[2] == "differs: device: Imaginary CPU in the base, A GPU in the head"
    assert "ranks on A GPU" in lines


def test_json_has_a_line_for_each_case_of_either_file(cli):
    done = cli("compare", "a.jsonl", "b.jsonl", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    around, case, only = map(json.loads, done.stdout.splitlines())
    assert around["differs"] == {"device": {"base": "Imaginary CPU", "head": "A GPU"}}
    assert (case["type"], case["metrics"][0]["metric"], case["metrics"][0]["head"]) == ("case", "static", 1)
    assert (only["type"], only["in"], only["status"]) == ("only", "base", "failed")


def test_markdown_goes_to_stdout(cli):
    done = cli("compare", "a.jsonl", "b.jsonl", "--markdown")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("## Base and head, side by side\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare", "a.jsonl", "none.jsonl"], "none.jsonl"),
        (["compare", "a.jsonl", "b.jsonl", "--json", "--markdown"], "choose one"),
        (["compare", "a.jsonl"], "'B'"),
        (["compare", "a.jsonl", "b.jsonl", "--out", "a.jsonl", "--json"], "--out a.jsonl: cannot be written"),
        (["export", "none.jsonl"], "none.jsonl"),
        (["export", "a.jsonl", "--out", "."], "--out .: cannot be written"),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(cli, arguments, words):
    done = cli(*arguments)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert words in last
    assert "Traceback" not in done.stderr
