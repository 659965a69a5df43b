"""``lorabench run`` from a scenario file to a table: real models, real processes, on the CPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import lorabench
from lorabench.report.terminal import per_second

SCENARIO = """\
scenario: tiny
question: Does the whole way work?
task: train
model: llama-tiny
quantization: fp32
sequence_length: 16
measure: {warmup: 1, steps: 5}
matrix:
  adapter.rank: [4, 8]
"""
COMMAND = [sys.executable, "-m", "lorabench"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(lorabench.__file__).parents[1])}


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "tiny.yaml").write_text(SCENARIO)
    return tmp_path


def lorabench_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )


def test_a_run_ends_with_the_table_and_the_name_of_its_file(folder):
    done = lorabench_in(folder, "run", "tiny.yaml", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    [path] = folder.glob("results/*-cpu.jsonl")
    assert done.stdout.splitlines()[-1] == f"results: {path.relative_to(folder)}"
    rows = [line.split() for line in done.stdout.splitlines() if line.split()[:1] in (["4"], ["8"])]
    assert [row[0] for row in rows] == ["4", "8"]
    assert all(row[-1] == "ok" for row in rows)
    table = lorabench.load(path).sort_values("adapter_rank")
    assert [row[1] for row in rows] == [f"{n_bytes / 2**20:.1f}" for n_bytes in table["memory_static_bytes"]]
    assert [row[6] for row in rows] == [per_second(rate) for rate in table["tokens_per_s"]]
    assert [line.split()[0] for line in done.stderr.splitlines()] == ["1/2", "2/2"]
    assert lorabench_in(folder, "show", str(path)).stdout == done.stdout.rpartition("results: ")[0]


def test_json_is_nothing_but_the_records(folder):
    done = lorabench_in(folder, "run", "tiny.yaml", "--device", "cpu", "--out", "out.jsonl", "--json", "-q")
    assert done.returncode == 0
    assert done.stderr == ""
    on_disk = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        line for line in on_disk if line["type"] == "record"
    ]


def test_a_case_that_is_not_ok_gives_exit_4_after_all_have_run(folder):
    arguments = ["--device", "cpu", "--set", "adapter.options={no_such_option: 1}", "--out", "out.jsonl"]
    done = lorabench_in(folder, "run", "tiny.yaml", *arguments)
    assert done.returncode == 4
    assert done.stdout.count("failed in attach") == 2
    stopped = lorabench_in(folder, "run", "tiny.yaml", *arguments, "--force", "-x")
    assert stopped.returncode == 4
    assert len(stopped.stderr.splitlines()) == 1


def test_an_existing_file_is_refused_resumed_or_replaced(folder):
    first = ["run", "tiny.yaml", "--device", "cpu", "--out", "out.jsonl"]
    assert lorabench_in(folder, *first, "-k", "4").returncode == 0
    refused = lorabench_in(folder, *first)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "--resume" in refused.stderr
    resumed = lorabench_in(folder, *first, "--resume")
    assert resumed.returncode == 0
    assert len(resumed.stderr.splitlines()) == 1, "the finished case is not run again"
    assert len(lorabench.load(folder / "out.jsonl")) == 2
    replaced = lorabench_in(folder, *first, "--force", "-k", "8")
    assert replaced.returncode == 0
    assert len(lorabench.load(folder / "out.jsonl")) == 1


def test_interrupting_a_run_keeps_what_is_finished(folder):
    endless = SCENARIO.replace("steps: 5", "steps: 5, repeats: 1000")
    (folder / "tiny.yaml").write_text(endless)
    process = subprocess.Popen(
        [*COMMAND, "run", "tiny.yaml", "--device", "cpu", "--out", "out.jsonl"],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    process.stderr.readline()
    # As a terminal does: to every process of the foreground group.
    os.killpg(process.pid, signal.SIGINT)
    interrupted = time.monotonic()
    output, messages = process.communicate(timeout=60)
    assert time.monotonic() - interrupted < 10
    assert process.returncode == 130
    assert output == ""
    assert "Traceback" not in messages
    assert messages.splitlines()[-1].startswith("interrupted")
    assert len(lorabench.load(folder / "out.jsonl")) >= 1


def test_predict_needs_no_gpu_and_says_what_it_cannot(folder):
    done = lorabench_in(folder, "predict", "tiny.yaml", "--set", "quantization=bf16", "--out", "out.jsonl", "-q")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "predicted for" in done.stdout
    table = lorabench.load(folder / "out.jsonl")
    assert set(table["source"]) == {"predicted"}
    assert table["step_median_s"].isna().all()
    lived = lorabench_in(folder, "predict", "tiny.yaml", "--set", "task=lifecycle", "--out", "life.jsonl", "-q")
    assert lived.returncode == 0, lived.stdout + lived.stderr
    assert set(lorabench.load(folder / "life.jsonl")["source"]) == {"predicted"}
    pissa = ("--set", "adapter.options={init_lora_weights: pissa}", "--out", "pissa.jsonl", "-q")
    refused = lorabench_in(folder, "predict", "tiny.yaml", *pissa)
    assert refused.returncode == 4
    assert "pissa computes the adapter from the values of the base's weights" in refused.stdout


def test_the_functions_do_what_the_commands_do(folder):
    scenarios = lorabench.load_scenarios([folder / "tiny.yaml"])
    cases = [case for scenario in scenarios for case in scenario.cases]
    records = lorabench.run(cases[:1], device="cpu", out=folder / "out.jsonl")
    assert [record.status for record in records] == ["ok"]
    assert list(lorabench.load(folder / "out.jsonl")["key"]) == [cases[0].key]
    [prediction] = lorabench.predict(lorabench.load_scenarios([folder / "tiny.yaml"], "fake")[0].cases[:1])
    assert prediction.source == "predicted"
