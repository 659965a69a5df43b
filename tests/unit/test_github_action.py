"""The composite action, which no runner is here to run: its metadata, and its scripts with a runner's variables."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from github_action import ACTION, EXPRESSION, ROOT, STEPS, run_step, step
from ruamel.yaml import YAML

WORKFLOW: dict[str, Any] = YAML(typ="safe").load(ROOT / "docs" / "ci" / "lorabench.yml")
# Notes what it was called with; writes what the command would have written.
SHIM = """\
#!/usr/bin/env bash
printf '%s\\n' "$*" >> "$CALLS"
if [ "$1 $2" = "-m lorabench" ]; then
  command=$3; shift 3
  while [ $# -gt 0 ]; do
    case "$1" in --out|--junit) : > "$2"; shift;; --markdown) echo "# gate" > "$2"; shift;; esac
    shift
  done
  if [ "$command" = predict ]; then exit "${PREDICT_EXIT:-0}"; fi
  exit "${GATE_EXIT:-0}"
fi
if [ "$1" = -c ]; then exit "${TORCH_EXIT:-0}"; fi
"""


@pytest.fixture
def run(tmp_path):
    """Runs a step's script as a runner does, with a python that only notes; returns the process and the calls."""
    shim = tmp_path / "bin" / "python"
    shim.parent.mkdir()
    shim.write_text(SHIM)
    shim.chmod(0o755)

    def run(name: str, **variables: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        environment = {"PATH": f"{shim.parent}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls")}
        done = run_step(name, tmp_path, {**environment, **variables})
        calls = tmp_path / "calls"
        return done, calls.read_text().splitlines() if calls.exists() else []

    return run


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for one in value.values():
            yield from strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from strings(one)
    elif isinstance(value, str):
        yield value


def test_the_metadata_has_what_a_composite_action_needs():
    """docs.github.com, "Metadata syntax reference"."""
    assert {"name", "description", "runs", "inputs", "outputs"} <= set(ACTION)
    assert ACTION["runs"]["using"] == "composite"
    assert all(one["shell"] == "bash" for one in STEPS if "run" in one)
    assert all("description" in one for one in (*ACTION["inputs"].values(), *ACTION["outputs"].values()))
    assert all(isinstance(one.get("default", ""), str) for one in ACTION["inputs"].values())


def test_every_input_is_declared_and_used():
    used = {name for text in strings(ACTION) for name in re.findall(r"inputs\.([\w-]+)", text)}
    assert used == set(ACTION["inputs"])


def test_every_output_is_written():
    for output in ACTION["outputs"].values():
        name = EXPRESSION.fullmatch(output["value"])[1].removeprefix("steps.gate.outputs.")
        assert f'echo "{name}=' in step("Predict and gate")["run"]


def test_no_input_is_spliced_into_a_script():
    assert not [one["name"] for one in STEPS if "run" in one and "${{" in one["run"]]


@pytest.mark.parametrize("name", [one["name"] for one in STEPS if "run" in one])
def test_scripts_are_bash(name):
    done = subprocess.run(["bash", "-n"], input=step(name)["run"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_foreign_actions_are_pinned_to_commits():
    uses = [one["uses"] for one in (*STEPS, *WORKFLOW["jobs"]["memory"]["steps"]) if "uses" in one]
    foreign = [name for name in uses if not name.startswith("OWNER/lorabench@")]
    assert len(foreign) == len(uses) - 1 == 4
    assert all(re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", name) for name in foreign)


def test_the_example_passes_what_the_action_takes():
    steps = WORKFLOW["jobs"]["memory"]["steps"]
    (ours,) = [one for one in steps if one.get("uses", "").startswith("OWNER/lorabench@")]
    required = {name for name, one in ACTION["inputs"].items() if one.get("required")}
    assert required <= set(ours["with"]) <= set(ACTION["inputs"])
    upload = next(one for one in steps if "upload-artifact" in one.get("uses", ""))
    assert upload["if"].startswith("always()")
    assert upload["with"]["path"].rstrip("/") == ACTION["inputs"]["output"]["default"]


def test_inputs_become_options(run):
    done, calls = run(
        "Predict and gate",
        PATHS="  a.yaml\nb/\n\n",
        BASELINE="base.jsonl",
        GPU="L4",
        SELECT="int8 and not nf4",
        MODEL="gpt2",
        STRICT="true",
        ACROSS_VERSIONS="true",
    )
    assert done.returncode == 0, done.stderr
    out = "./lorabench-gate"
    assert calls == [
        f"-m lorabench predict --out {out}/results.jsonl --force --gpu=L4 -k int8 and not nf4 --model=gpt2 "
        "-- a.yaml b/",
        f"-m lorabench gate --baseline=base.jsonl --junit {out}/junit.xml --markdown {out}/gate.md --strict "
        f"--across-versions -- {out}/results.jsonl",
    ]


@pytest.mark.parametrize(("predict", "gate", "code"), [("0", "0", 0), ("0", "1", 1), ("4", "1", 1), ("0", "3", 3)])
def test_it_ends_as_the_gate_does_once_everything_is_written(run, tmp_path, predict, gate, code):
    done, calls = run("Predict and gate", PATHS="a.yaml", BASELINE="b", PREDICT_EXIT=predict, GATE_EXIT=gate)
    assert (done.returncode, len(calls)) == (code, 2)
    assert (tmp_path / "summary.md").read_text() == "# gate\n"
    assert (tmp_path / "outputs").read_text().splitlines() == [
        f"exit-code={code}",
        "results=lorabench-gate/results.jsonl",
        "junit=lorabench-gate/junit.xml",
        "markdown=lorabench-gate/gate.md",
    ]


def test_a_prediction_that_is_refused_is_not_gated(run):
    done, calls = run("Predict and gate", PATHS="a.yaml", BASELINE="b", PREDICT_EXIT="2")
    assert (done.returncode, len(calls)) == (2, 1)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"PATHS": " \n"}, "names no scenario"),
        ({"PATHS": "a", "STRICT": "yes"}, "strict must be true or false"),
        ({"PATHS": "a", "OUTPUT": "x\nresults=/etc/passwd"}, "must be a folder's name"),
    ],
)
def test_wrong_inputs_are_one_annotation_and_exit_2(run, variables, words):
    done, calls = run("Predict and gate", **{"BASELINE": "b", **variables})
    assert (done.returncode, calls) == (2, [])
    assert done.stdout.startswith("::error::lorabench: ")
    assert words in done.stdout


def test_what_stands_in_an_input_does_not_run(run, tmp_path):
    evil = "$(touch owned)`touch owned`; touch owned #"
    done, _ = run(
        "Predict and gate", PATHS=evil, BASELINE=evil, GPU=evil, SELECT=evil, MODEL=evil, OUTPUT="out; touch owned"
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(("torch", "installs"), [("0", 0), ("1", 1)])
def test_torch_is_installed_for_cpus_where_there_is_none(run, torch, installs):
    done, calls = run("Install lorabench", TORCH_EXIT=torch)
    assert done.returncode == 0, done.stderr
    assert sum("torch --index-url https://download.pytorch.org/whl/cpu" in call for call in calls) == installs
    assert calls[-1] == "-m pip install --disable-pip-version-check /action"


def test_another_lorabench_can_be_named(run):
    _, calls = run("Install lorabench", LORABENCH="lorabench==0.1.0")
    assert calls[-1].endswith("lorabench==0.1.0")
