"""``lorabench ab`` under two interpreters for real, one of which has the torch stack and nothing of lorabench's."""

from __future__ import annotations

import json
import sys
import venv
from pathlib import Path
from xml.etree import ElementTree as ET

import psutil
import pytest
from command_line import lorabench_in

from lorabench.results import read_results

SCENARIO = """\
scenario: tiny
question: Is the branch slower?
task: train
model: llama-tiny
quantization: fp32
sequence_length: 16
measure: {warmup: 1, steps: 5}
"""
OWN = ("lorabench", "pydantic", "ruamel", "scipy", "statsmodels", "pandas", "pytest", "_editable", "__editable")


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "tiny.yaml").write_text(SCENARIO)
    return tmp_path


def environment(folder: Path, *, without: tuple[str, ...]) -> str:
    """A virtual environment with links to what is installed here, but for packages that begin so; its interpreter."""
    venv.create(folder, symlinks=True)
    [site] = folder.glob("lib/python*/site-packages")
    [installed] = {Path(psutil.__file__).parents[1]}
    for entry in installed.iterdir():
        if not entry.name.startswith(without):
            (site / entry.name).symlink_to(entry)
    return str(folder / "bin" / "python")


@pytest.mark.slow
def test_a_foreign_interpreter_is_compared(folder):
    foreign = environment(folder / "foreign", without=OWN)
    options = ["--device", "cpu", "--pairs", "4", "--out", "out.jsonl", "--junit", "out.xml", "--markdown", "out.md"]
    done = lorabench_in(folder, "ab", "tiny.yaml", "--base", sys.executable, "--head", foreign, "--json", *options)
    # So few pairs settle nothing on a busy machine; what counts here is that they were taken.
    assert done.returncode in (0, 1), done.stderr
    verdict, whole = (json.loads(line) for line in done.stdout.splitlines())
    assert (verdict["metric"], verdict["pairs"], verdict["lost"]) == ("step", 4, {"base": 0, "head": 0})
    assert whole["versions"]["base"] == whole["versions"]["head"]
    records = read_results(folder / "out.jsonl").latest()
    assert [record.status for record in records] == ["ok"] * 8
    assert {record.observations["ab"]["side"] for record in records} == {"base", "head"}
    assert all(record.proof is not None and record.proof.adapter_modules for record in records)
    assert len({record.memory.peak_allocated_bytes for record in records if record.memory}) == 1
    assert ET.parse(folder / "out.xml").getroot().find("testsuite/testcase").attrib["name"] == "tiny: step"
    assert "| `tiny` | step |" in (folder / "out.md").read_text()
    refused = lorabench_in(folder, "ab", "tiny.yaml", "--base", foreign, "--head", foreign, *options)
    assert refused.returncode == 2
    assert "exists" in refused.stderr


def test_an_interpreter_that_cannot_run_cases_is_one_line(folder):
    bare = environment(folder / "bare", without=("",))
    for head, why in (("no-such-python", "No such file"), (bare, "No module named")):
        done = lorabench_in(folder, "ab", "tiny.yaml", "--base", bare, "--head", head, "--device", "cpu")
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert why in done.stderr
        assert not list(folder.glob("results/*"))


def test_what_has_no_time_is_refused(folder):
    both = ["--base", sys.executable, "--head", sys.executable]
    done = lorabench_in(folder, "ab", "tiny.yaml", *both, "--device", "fake")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "no time to compare" in done.stderr
    done = lorabench_in(folder, "ab", "tiny.yaml", *both, "--pairs", "2")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("tiny.yaml", "--out", "out.jsonl", "--junit", "out.jsonl"), "--out and --junit: both are out.jsonl"),
        (("tiny.yaml", "--out", "a.jsonl", "--markdown", "./a.jsonl"), "--out and --markdown: both are a.jsonl"),
        (("tiny.yaml", "--junit", "x", "--markdown", "x"), "--junit and --markdown: both are x"),
        (("tiny.yaml", "--junit", "tiny.yaml"), "PATH and --junit: both are tiny.yaml"),
        ((".", "--markdown", "tiny.yaml"), "PATH and --markdown: both are tiny.yaml"),
        (("tiny.yaml", "--out", "tiny.yaml", "--force"), "PATH and --out: both are tiny.yaml"),
    ],
)
def test_no_option_overwrites_another_file_of_the_comparison(folder, arguments, options):
    both = ["--base", sys.executable, "--head", sys.executable, "--device", "cpu", "--pairs", "4"]
    done = lorabench_in(folder, "ab", *arguments, *both)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{options}: name two files\n"
    assert [path.name for path in folder.iterdir()] == ["tiny.yaml"], "nothing was run"
    assert (folder / "tiny.yaml").read_text() == SCENARIO
