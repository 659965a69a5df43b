"""The export that pytest-benchmark and the dashboards behind it read."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import lorabench_in

from lorabench.cli.export import export as command
from lorabench.errors import InputError
from lorabench.record import AlsoIn, Timing
from lorabench.report.pytest_benchmark import export

SAMPLES = (0.010, 0.012, 0.011, 0.013)


@pytest.fixture
def timed(make_record):
    return make_record(latency={"step": Timing(SAMPLES, 0.0115, (0.010, 0.013), unstable=False)})


def test_the_statistics_are_those_of_the_samples(timed, environment):
    whole, left_out = export([timed], {environment.id: environment})
    (benchmark,) = whole["benchmarks"]
    stats = benchmark["stats"]
    assert left_out == []
    assert stats["data"] == list(SAMPLES)
    assert stats["mean"] == pytest.approx(statistics.mean(SAMPLES))
    assert stats["stddev"] == pytest.approx(statistics.stdev(SAMPLES))
    assert stats["median"] == pytest.approx(statistics.median(SAMPLES))
    assert (stats["min"], stats["max"], stats["rounds"]) == (0.010, 0.013, 4)
    assert stats["ops"] == pytest.approx(4 / sum(SAMPLES))


def test_a_dashboard_finds_what_it_reads(timed, environment):
    """The fields of github-action-benchmark's extractPytestResult (src/extract.ts)."""
    whole, _ = export([timed], {environment.id: environment})
    (benchmark,) = json.loads(json.dumps(whole))["benchmarks"]
    assert benchmark["fullname"] == "ranks[adapter.rank=4]::step"
    for field in ("ops", "stddev", "mean", "rounds"):
        assert isinstance(benchmark["stats"][field], int | float)
    assert benchmark["extra_info"]["memory"]["peak_allocated_bytes"] == 150 * 2**20


def test_what_has_no_samples_is_said(timed, failed_record, make_record, environment):
    predicted = make_record(source="predicted", latency={}, repeat=1)
    whole, left_out = export([timed, failed_record, predicted], {environment.id: environment})
    assert len(whole["benchmarks"]) == 1
    assert sorted(left_out) == [
        "not exported: 1 record (failed)",
        "not exported: 1 record (predicted, no samples of time)",
    ]


def test_nothing_to_export_is_an_error(failed_record, environment):
    with pytest.raises(InputError, match="no record has samples"):
        export([failed_record], {environment.id: environment})


def test_names_are_unique(make_record, environment):
    records = [make_record(), make_record(repeat=1), make_record(seed=3), make_record(group="g")]
    whole, _ = export(records, {environment.id: environment})
    names = [benchmark["fullname"] for benchmark in whole["benchmarks"]]
    assert len(set(names)) == len(names) == 8


def test_a_case_has_a_curve_in_each_scenario_that_asks_for_it(make_record, environment):
    also = (AlsoIn("lengths", "lengths[sequence_length=512]", (("sequence_length", 512),)),)
    whole, left_out = export([make_record(also=also)], {environment.id: environment})
    told = [(one["name"], one["group"], one["params"]) for one in whole["benchmarks"] if "step" in one["name"]]
    assert told == [
        ("lengths[sequence_length=512]::step", "lengths step", {"sequence_length": "512"}),
        ("ranks[adapter.rank=4]::step", "ranks step", {"adapter.rank": "4"}),
    ]
    assert left_out == []


def test_without_pytest_benchmark_one_line_says_what_to_install(timed, environment, monkeypatch):
    monkeypatch.setitem(sys.modules, "pytest_benchmark", None)
    with pytest.raises(InputError, match="pip install pytest-benchmark"):
        export([timed], {environment.id: environment})


def test_pytest_benchmark_compares_two_exports(timed, environment, tmp_path):
    lines = [json.dumps(one.to_dict()) for one in (environment, timed)]
    (tmp_path / "results.jsonl").write_text("\n".join(lines) + "\n")
    for name in ("before.json", "after.json"):
        done = lorabench_in(tmp_path, "export", "results.jsonl", "--out", name)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    printed = lorabench_in(tmp_path, "export", "results.jsonl")
    assert json.loads(printed.stdout) == json.loads((tmp_path / "before.json").read_text())
    compared = subprocess.run(
        [str(Path(sys.executable).with_name("pytest-benchmark")), "compare", "before.json", "after.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert compared.returncode == 0, compared.stderr
    output = compared.stdout + compared.stderr
    assert "benchmark 'ranks step': 2 tests" in output
    assert output.count("ranks[adapter.rank=4]::step") == 2


@pytest.mark.parametrize("name", ["results.jsonl", "./results.jsonl", "linked.jsonl", "hard.jsonl"])
def test_the_results_are_not_overwritten(timed, environment, tmp_path, name):
    path = tmp_path / "results.jsonl"
    path.write_text("".join(json.dumps(one.to_dict()) + "\n" for one in (environment, timed)))
    (tmp_path / "linked.jsonl").symlink_to(path)
    (tmp_path / "hard.jsonl").hardlink_to(path)
    before = path.read_text()
    done = lorabench_in(tmp_path, "export", "results.jsonl", "--out", name)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"RESULTS and --out: both are {Path(name)}: name two files\n"
    assert path.read_text() == before


def test_a_full_disk_leaves_no_file(timed, environment, tmp_path, monkeypatch):
    path = tmp_path / "results.jsonl"
    path.write_text("".join(json.dumps(one.to_dict()) + "\n" for one in (environment, timed)))

    def fill_up(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fill_up)
    with pytest.raises(InputError, match=r"--out .*out\.json: cannot be written: No space left on device"):
        command([path], tmp_path / "out.json")
    assert list(tmp_path.iterdir()) == [path]
