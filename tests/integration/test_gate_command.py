"""``lorabench gate`` as CI meets it: exit codes, files, hostile files, changes of the code under real predictions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from command_line import lorabench_in
from gating import BYTES, predicted, without_checkpointing, without_quantization

import lorabench
from lorabench.case import Adapter, Case
from lorabench.cli import main
from lorabench.environment import PREDICTED_CARD, Environment

VERSIONS = {"torch": "2.13.0+cpu", "transformers": "5.23.0", "peft": "0.21.2", "bitsandbytes": "0.50.2"}
HERE = Environment(PREDICTED_CARD, None, VERSIONS, {}, {}, "", None, lorabench.__version__, id="0123456789ab")


def case(**settings) -> Case:
    fields = {"scenario": "steps", "task": "train", "model": "llama-tiny", "sequence_length": 32, "int8_threshold": 0.0}
    return Case(**{**fields, "adapter": Adapter(rank=4), **settings})


def write(path: Path, *records, environment: Environment = HERE) -> str:
    path.write_text("".join(json.dumps(line.to_dict()) + "\n" for line in (environment, *records)))
    return path.name


@pytest.fixture
def gate(tmp_path):
    """Runs ``lorabench gate`` in an empty folder; keywords are environment variables."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
        return subprocess.run(
            [sys.executable, "-m", "lorabench", "gate", *arguments],
            cwd=tmp_path,
            env={**inherited, "PYTHONPATH": str(Path(lorabench.__file__).parents[1]), **variables},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.fixture(scope="module")
def checkpointed():
    return predicted(case(quantization="int8", gradient_checkpointing="reentrant"), HERE)


@pytest.fixture
def baseline(tmp_path, gate, checkpointed) -> str:
    done = gate(write(tmp_path / "base.jsonl", checkpointed), "--baseline", "baseline.jsonl", "--update")
    assert (done.returncode, done.stdout) == (0, "baseline: baseline.jsonl: 1 case\n"), done.stderr
    return "baseline.jsonl"


CHANGES = {
    **{f"one byte in {name}": change for name, change in BYTES.items()},
    "layer 3 is not checkpointed": without_checkpointing(3),
    "k_proj is not quantized": without_quantization("layers.0.self_attn.k_proj"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_code_is_caught_in_every_format(tmp_path, gate, baseline, checkpointed, change):
    changed = predicted(case(quantization="int8", gradient_checkpointing="reentrant"), HERE, CHANGES[change])
    results = write(tmp_path / "head.jsonl", changed)
    done = gate(results, "--baseline", baseline, "--junit", "j.xml", "--markdown", "m.md", GITHUB_ACTIONS="true")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith("failed: 1 case (1 more)")
    failures = ET.parse(tmp_path / "j.xml").findall("testsuite/testcase/failure")
    before, after = checkpointed.memory.peak_allocated_bytes, changed.memory.peak_allocated_bytes
    assert after > before
    markdown = (tmp_path / "m.md").read_text()
    for text in (done.stdout, markdown, failures[0].text or ""):
        assert "by category: " in text
    for text in (done.stdout, markdown, "".join(failure.attrib["message"] for failure in failures)):
        assert f"{before:,}" in text
        assert f"{after:,}" in text
    assert done.stderr.startswith("::error title=lorabench gate::failed")


def test_the_other_way_round_it_is_an_improvement_which_strict_wants_recorded(tmp_path, gate, checkpointed):
    changed = predicted(case(quantization="int8", gradient_checkpointing="reentrant"), HERE, without_checkpointing(0))
    assert gate(write(tmp_path / "head.jsonl", changed), "--baseline", "b.jsonl", "--update").returncode == 0
    results = write(tmp_path / "less.jsonl", checkpointed)
    done = gate(results, "--baseline", "b.jsonl")
    assert done.returncode == 0
    assert "notice: 1 case with fewer bytes: record it with --update" in done.stdout
    assert gate(results, "--baseline", "b.jsonl", "--strict").returncode == 1


def test_what_the_command_predicts_twice_passes(tmp_path, gate):
    (tmp_path / "steps.yaml").write_text(
        "scenario: steps\nquestion: Same?\ntask: train\nmodel: llama-tiny\nsequence_length: 32\n"
    )
    for name in ("one.jsonl", "two.jsonl"):
        assert lorabench_in(tmp_path, "predict", "steps.yaml", "--out", name, "-q").returncode == 0
    assert gate("one.jsonl", "--baseline", "b/baseline.jsonl", "--update").returncode == 0
    text = (tmp_path / "b" / "baseline.jsonl").read_text()
    assert str(tmp_path) not in text
    done = gate("two.jsonl", "--baseline", "b/baseline.jsonl", "--strict", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["cases"]["equal"] == 1
    assert gate("two.jsonl", "--baseline", "b/baseline.jsonl", "--update").returncode == 0
    assert (tmp_path / "b" / "baseline.jsonl").read_text() == text


def test_no_baseline_is_one_line_that_names_update_and_files_are_written_all_the_same(tmp_path, gate, checkpointed):
    results = write(tmp_path / "head.jsonl", checkpointed)
    done = gate(results, "--baseline", "none.jsonl", "--junit", "j.xml", "--markdown", "m.md")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "not comparable: none.jsonl: no such baseline; --update writes one\n"
    assert ET.parse(tmp_path / "j.xml").getroot().attrib["errors"] == "1"
    assert "no such baseline" in (tmp_path / "m.md").read_text()


def test_other_versions_are_a_line_each_and_compared_on_demand(tmp_path, gate, baseline, checkpointed):
    newer = Environment(**{**vars(HERE), "versions": {**VERSIONS, "peft": "0.99", "torch": "3.0"}})
    results = write(tmp_path / "head.jsonl", checkpointed, environment=newer)
    done = gate(results, "--baseline", baseline)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.splitlines() == [
        "not comparable: torch: 2.13.0 in the baseline, 3.0 here",
        "not comparable: peft: 0.21.2 in the baseline, 0.99 here; --across-versions compares all the same; "
        "--update makes these results the baseline",
    ]
    across = gate(results, "--baseline", baseline, "--across-versions")
    assert across.returncode == 0
    assert "compared across: torch: 2.13.0 in the baseline, 3.0 here; peft" in across.stdout


def test_a_steps_summary_is_appended_to(tmp_path, gate, baseline, checkpointed):
    summary = tmp_path / "summary.md"
    summary.write_text("what came before\n")
    results = write(tmp_path / "head.jsonl", checkpointed)
    arguments = (results, "--baseline", baseline, "--markdown", str(summary))
    assert gate(*arguments, GITHUB_STEP_SUMMARY=str(summary)).returncode == 0
    assert summary.read_text().startswith("what came before\n### ")
    assert gate(*arguments).returncode == 0
    assert summary.read_text().startswith("### ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--junit", "head.jsonl"),
        ("--markdown", "baseline.jsonl"),
        ("--junit", "x", "--markdown", "./x"),
        ("--update", "--junit", "x"),
        ("--junit", "."),
    ],
)
def test_no_option_overwrites_what_is_read(tmp_path, gate, baseline, checkpointed, arguments):
    before = (tmp_path / baseline).read_bytes()
    done = gate(write(tmp_path / "head.jsonl", checkpointed), "--baseline", baseline, *arguments)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert (tmp_path / baseline).read_bytes() == before


def test_a_regression_is_told_where_a_file_cannot_be_written(tmp_path, gate, baseline, checkpointed):
    memory = replace(checkpointed.memory, peak_allocated_bytes=checkpointed.memory.peak_allocated_bytes + 1)
    results = write(tmp_path / "head.jsonl", replace(checkpointed, memory=memory))
    done = gate(results, "--baseline", baseline, "--junit", "/dev/full", "--markdown", "m.md")
    assert done.returncode == 2
    assert done.stdout.splitlines()[-1].startswith("failed: 1 case")
    assert done.stderr == "--junit /dev/full: cannot be written: No space left on device\n"
    assert "failed: 1 case" in (tmp_path / "m.md").read_text()


def test_files_are_written_where_nobody_reads_the_verdict(tmp_path, baseline, checkpointed):
    results = write(tmp_path / "head.jsonl", checkpointed)
    command = [sys.executable, "-m", "lorabench", "gate", results, "--baseline", baseline, "--junit", "j.xml"]
    environment = {**os.environ, "PYTHONPATH": str(Path(lorabench.__file__).parents[1])}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, stdout=full, stderr=subprocess.PIPE, text=True, timeout=300
        )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert ET.parse(tmp_path / "j.xml").getroot().attrib["failures"] == "0"


def nested(depth: int) -> str:
    return '{"type":"record","observations":' + "[" * depth + "]" * depth + "}"


HOSTILE = {
    "deep": nested(100_000),
    "huge number": '{"type":"record","seed":' + "9" * 100_000 + "}",
    "not a number": '{"type":"record","wall_s":NaN}',
    "infinite": '{"type":"record","wall_s":1e999}',
    "wrong types": '{"type":"record","memory":7,"name":[]}',
    "no object": "[1, 2, 3]",
    "a list of a type": '{"type":["tolerance"]}',
    "conflict": "<<<<<<< HEAD",
    "binary": "\x00\x01",
    "tolerance below 0": '{"type":"tolerance","metric":"*","bytes":-1}',
    "huge tolerance": '{"type":"tolerance","metric":"*","bytes":' + "9" * 400 + "}",
    "unknown metric": '{"type":"tolerance","metric":"../../x","bytes":1}',
    "other environment": None,
    "no environment": "",
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("side", ["results", "baseline"])
def test_a_hostile_file_is_one_line_and_exit_2(tmp_path, monkeypatch, capsys, checkpointed, kind, side):
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    write(good, checkpointed)
    if kind == "other environment":
        line = json.dumps({**checkpointed.to_dict(), "environment": "unheard of"})
    else:
        line = str(HOSTILE[kind])
    bad.write_text(line if kind == "no environment" else f"{good.read_text()}{line}\n")
    files = (bad, good) if side == "results" else (good, bad)
    before = sorted(tmp_path.iterdir())
    # In this process: a new one for each takes longer than all the rest.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lorabench", "gate", files[0].name, "--baseline", files[1].name, "--junit", "j"])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (2, "")
    assert len(said.err.splitlines()) == 1
    assert len(said.err) < 600
    assert sorted(tmp_path.iterdir()) == before


def test_a_name_that_climbs_writes_no_file(tmp_path, gate, baseline, checkpointed):
    head = replace(checkpointed, name="../../climbed", scenario="../../climbed")
    before = {path.name for path in tmp_path.iterdir()}
    done = gate(write(tmp_path / "head.jsonl", head), "--baseline", baseline, "--junit", "j.xml", "--markdown", "m.md")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == before | {"head.jsonl", "j.xml", "m.md"}


def test_an_update_with_a_failed_case_names_it_and_changes_nothing(tmp_path, gate, baseline, checkpointed):
    before = (tmp_path / baseline).read_bytes()
    results = write(tmp_path / "head.jsonl", replace(checkpointed, status="failed", memory=None))
    done = gate(results, "--baseline", baseline, "--update")
    assert done.returncode == 2
    assert "(failed)" in done.stderr
    assert (tmp_path / baseline).read_bytes() == before
