"""``lorabench claims`` as its users meet it: real processes, their exit codes, and what they say where."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import lorabench
from lorabench.analysis.claims.catalogue import CLAIMS

EVIDENCE = Path(__file__).parents[2] / "results" / "h200"
VERDICTS = {"supported", "refuted", "conditional", "inconclusive", "not tested"}
FIELDS = {"id", "verdict", "effect", "ci95", "n", "threshold", "scope", "condition", "evidence", "missing"}


@pytest.fixture
def cli(tmp_path):
    """Runs ``lorabench`` in an empty folder, its output in pipes."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "lorabench", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(lorabench.__file__).parents[1]), **environment},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


def write(path: Path, *lines) -> str:
    path.write_text("".join(json.dumps(line.to_dict()) + "\n" for line in lines))
    return path.name


@pytest.fixture
def restored(make_record):
    """A lifecycle case whose adapter came back, or did not."""

    def make(equal: bool, **case):
        observed = {"restore": {"equal": equal, "max_abs": 0.0 if equal else 0.5}}
        settings = {"task": "lifecycle", "scenario": "lifecycle", "axes": (), **case}
        return make_record(case=settings, observations={"lifecycle": observed})

    return make


@pytest.fixture
def results(tmp_path, environment, restored) -> str:
    return write(tmp_path / "results.jsonl", environment, restored(True))


def verdicts(done: subprocess.CompletedProcess[str]) -> dict[str, dict]:
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {verdict["id"]: verdict for verdict in found}


def test_json_is_an_object_a_claim_in_the_guides_order(cli, results, restored):
    done = cli("claims", results, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [verdict["id"] for verdict in found] == [claim.id for claim in CLAIMS]
    for verdict in found:
        assert set(verdict) >= FIELDS
        assert verdict["verdict"] in VERDICTS
        assert verdict["scope"].startswith("Imaginary CPU")
        assert bool(verdict["missing"]) or verdict["verdict"] != "not tested"
    assert verdicts(done)["merge-follows-mode"]["verdict"] == "not tested"
    assert verdicts(done)["adapter-restores"] == {
        "id": "adapter-restores",
        "verdict": "supported",
        "effect": 0.0,
        "ci95": None,
        "n": 1,
        "threshold": 0.0,
        "unit": "largest difference of a logit",
        "scope": "Imaginary CPU; llama-tiny",
        "condition": None,
        "summary": "Restored into a fresh base, 1 of 1 adapters gave the outputs from before saving bit for bit. "
        "Restoring was not timed.",
        "evidence": [restored(True).key],
        "missing": [],
    }


def test_the_table_says_what_each_untested_claim_needs(cli, results):
    untested = {
        name for name, one in verdicts(cli("claims", results, "--json")).items() if one["verdict"] == "not tested"
    }
    done = cli("claims", results)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    for claim in CLAIMS:
        assert sum(line.startswith(f"{claim.id} ") for line in lines) == 1
        needs = [line for line in lines if line.startswith(f"  {claim.id}: needs ")]
        assert len(needs) == (claim.id in untested)
    assert {"starts-as-identity", "adapters-switch"} <= untested


def test_a_refuted_claim_is_no_failure_of_the_command(cli, tmp_path, environment, restored):
    done = cli("claims", write(tmp_path / "bad.jsonl", environment, restored(False)), "--json")
    assert done.returncode == 0
    assert (verdicts(done)["adapter-restores"]["verdict"], verdicts(done)["adapter-restores"]["effect"]) == (
        "refuted",
        0.5,
    )


def test_several_files_are_judged_together(cli, tmp_path, results, environment, restored):
    other = write(tmp_path / "other.jsonl", environment, restored(False, quantization="nf4"))
    found = verdicts(cli("claims", results, other, "--json"))["adapter-restores"]
    assert (found["verdict"], found["condition"], found["n"]) == ("conditional", "under bf16; not under nf4", 2)
    assert len(found["evidence"]) == 2


@pytest.mark.parametrize("arguments", [["missing.jsonl"], ["results.jsonl", "not.jsonl"], ["."], []])
def test_bad_input_is_one_line_and_exit_2(cli, results, tmp_path, arguments):
    (tmp_path / "not.jsonl").write_text("hello\n")
    done = cli("claims", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    for name in arguments[-1:]:
        assert name in done.stderr


def test_some_claims_are_judged_alone_in_the_guides_order(cli, results):
    chosen = ("--claim", "adapters-switch", "--claim", "adapter-restores")
    done = cli("claims", results, *chosen, "--json")
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == ["adapter-restores", "adapters-switch"]
    lines = cli("claims", results, *chosen[:2]).stdout.splitlines()
    assert [line.split()[0] for line in lines if line.split()[:1] in ([one.id] for one in CLAIMS)] == [chosen[1]]


def test_a_claim_shown_alone_has_the_verdict_that_it_has_beside_the_others(cli):
    """Merging on the H200: its p value bears no correction for the other claims' tests."""
    files = [str(EVIDENCE / f"{name}.jsonl") for name in ("scenarios", "lifecycle", "large", "learning")]
    every, alone = (
        {
            verdict["id"]: verdict
            for verdict in map(json.loads, cli("claims", *files, *chosen, "--json").stdout.splitlines())
        }
        for chosen in ((), ("--claim", "merged-adds-none"))
    )
    assert list(alone) == ["merged-adds-none"]
    assert alone["merged-adds-none"] == every["merged-adds-none"]
    assert len(every) == len(CLAIMS)


def test_a_claim_that_is_none_is_bad_input(cli, results):
    done = cli("claims", results, "--claim", "adapter-restore")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("no such claim (did you mean 'adapter-restores'?)\n")


def test_a_torn_line_is_told_on_stderr(cli, results, tmp_path):
    path = tmp_path / results
    path.write_text(path.read_text() + '{"type": "rec')
    done = cli("claims", results, "--json")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, len(CLAIMS))
    assert "torn" in done.stderr


def test_no_records_are_no_verdicts(cli, tmp_path, environment):
    empty = write(tmp_path / "empty.jsonl", environment)
    assert cli("claims", empty, "--json").stdout == ""
    assert cli("claims", empty).stdout == "no records to judge claims by\n"


def test_judging_loads_no_torch(results, tmp_path):
    code = (
        "import sys; from pathlib import Path; from lorabench.cli.claims import claims\n"
        "before = sorted({'torch', 'scipy', 'pandas'} & set(sys.modules))\n"
        f"claims([Path({str(tmp_path / results)!r})], as_json=True)\n"
        "print(before, sorted({'torch', 'transformers', 'peft', 'bitsandbytes'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr == "[] []\n"
