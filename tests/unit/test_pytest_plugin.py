"""The plugin in pytest runs of other people: cheap where nobody asks, plain words where a test fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

# Loaded here, once: pytester forgets what a run of its own has loaded.
import lorabench.analysis.gate
import lorabench.report.gate.wording
import lorabench.scenario  # noqa: F401
from lorabench import pytest_plugin
from lorabench.record import Memory, RecordError

pytest_plugins = ["pytester"]

MIB = 2**20
CATEGORIES = {"activations": 50 * MIB, "base_weights": 90 * MIB, "adapter_weights": 10 * MIB, "gradients": 0}

HEAVY = {"torch", "pandas", "numpy", "pydantic", "rich", "typer", "ruamel", "matplotlib", "jinja2", "psutil", "scipy"}
SCENARIO = """\
scenario: step
question: What does a step hold?
task: train
model: llama-tiny
sequence_length: 64
measure: {warmup: 1, steps: 3}
"""
TEST = """\
def test_step(lora_gate):
    lora_gate.check({call})
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> Path:
    """A library with a scenario beside its tests, in a folder that is not the root."""
    (pytester.path / "tests" / "scenarios").mkdir(parents=True)
    (pytester.path / "tests" / "scenarios" / "step.yaml").write_text(SCENARIO)
    return pytester.path


@pytest.fixture
def ran(monkeypatch, environment, make_record):
    """What the cases of a check come to, without running them: by default 100 MiB static and 150 MiB at the peak."""
    changes = {}

    def _run(cases, device, out):
        memory = Memory(100 * MIB, 50 * MIB, 150 * MIB, categories=CATEGORIES)
        records = [
            replace(
                make_record(latency={}, memory=memory),
                key=case.key,
                name=case.name,
                scenario=case.scenario,
                **changes,
            )
            for case in cases
        ]
        out.write_text("".join(json.dumps(one.to_dict()) + "\n" for one in (environment, *records)))
        return records

    monkeypatch.setattr(pytest_plugin, "_run", _run)
    return changes


def run(pytester: pytest.Pytester, call: str, *arguments: str) -> pytest.RunResult:
    (pytester.path / "tests" / "test_bytes_of_the_library.py").write_text(TEST.format(call=call))
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", *arguments)


def test_the_plugin_is_found_and_can_be_turned_off(pytester, project):
    run(pytester, '"nothing.yaml"').assert_outcomes(failed=1)
    off = run(pytester, '"nothing.yaml"', "-p", "no:lorabench")
    off.assert_outcomes(errors=1)
    off.stdout.fnmatch_lines(["*fixture 'lora_gate' not found*"])


def test_a_run_that_does_not_ask_loads_nothing_heavy(tmp_path):
    (tmp_path / "test_nothing.py").write_text(
        "import sys\n\ndef test_nothing():\n    loaded = {name.split('.')[0] for name in sys.modules}\n"
        f"    assert not {HEAVY!r} & loaded\n    assert 'lorabench.pytest_plugin' in sys.modules\n"
    )
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "lorabench.pytest_plugin", "test_nothing.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_what_keeps_to_its_limits_passes_and_leaves_its_peak_behind(pytester, project, ran):
    call = '"scenarios/step.yaml", max_peak_mib=150, max_static_mib=100, max_dynamic_mib=50'
    run(pytester, call, "--junit-xml=junit.xml").assert_outcomes(passed=1)
    found = ET.parse(project / "junit.xml").iterfind(".//testcase[@name='test_step']//property")
    assert [(one.get("name"), one.get("value")) for one in found] == [("step peak_allocated_bytes", str(150 * MIB))]


def test_a_failure_tells_the_case_the_bytes_the_limit_and_what_they_are(pytester, project, ran):
    done = run(pytester, '"scenarios/step.yaml", max_peak_mib=149.5, max_static_mib=100')
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        [
            "*lora_gate.check(*",
            "E*lora_gate: 1 case, not all as they must be:",
            "E*step: peak allocated: 157,286,400 bytes (150.0 MiB), over the limit of 149.5 MiB by 524,288 bytes",
            "E*at the peak: base weights 90.0 MiB, activations 50.0 MiB, adapter weights 10.0 MiB",
        ]
    )
    assert "static" not in done.stdout.str().replace("max_static_mib", "")
    assert "pytest_plugin.py" not in done.stdout.str()


def test_a_case_that_does_not_end_ok_fails_without_any_limit(pytester, project, ran):
    ran.update(status="oom", error=RecordError("OutOfMemoryError", "tried to allocate", "backward"), memory=None)
    done = run(pytester, '"scenarios/step.yaml"')
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["E*step: oom in backward: OutOfMemoryError: tried to allocate"])


def test_a_baseline_holds_every_byte_until_it_is_written_anew(pytester, project, ran):
    call = '"scenarios/step.yaml", baseline="base.jsonl"'
    missing = run(pytester, call)
    missing.assert_outcomes(failed=1)
    missing.stdout.fnmatch_lines(["E*base.jsonl: no such baseline*(pytest --lorabench-update writes it anew)"])
    run(pytester, call, "--lorabench-update").assert_outcomes(passed=1)
    run(pytester, call).assert_outcomes(passed=1)
    ran["memory"] = Memory(100 * MIB, 50 * MIB, 150 * MIB + 1, categories=CATEGORIES)
    worse = run(pytester, call)
    worse.assert_outcomes(failed=1)
    worse.stdout.fnmatch_lines(["E*step*peak allocated: 157,286,400 bytes * -> 157,286,401 bytes*+1 byte *"])
    ran["memory"] = Memory(100 * MIB, 50 * MIB, 150 * MIB - 1, categories=CATEGORIES)
    run(pytester, call).assert_outcomes(passed=1)
    run(pytester, call + ", strict=True").assert_outcomes(failed=1)
    run(pytester, call, "--lorabench-update").assert_outcomes(passed=1)
    run(pytester, call + ", strict=True").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ('"nothing.yaml"', "no file or folder 'nothing.yaml' in *tests, where the test's file is"),
        ('"tests/scenarios/step.yaml"', "*did you mean 'scenarios/step.yaml'*"),
        ('"scenarios/step.yaml", "rank"', "*matches none of the 1 cases*"),
        ('"scenarios/step.yaml", device="gpu"', "*gpu: no such device*"),
        ('"scenarios/step.yaml", gpu="T5"', "*T5*"),
        ('"scenarios/step.yaml", gpu="T4", device="cpu"', "*predicts nothing*"),
        ('"scenarios/step.yaml", set={"rank": 4}', "*rank*"),
        ('"scenarios/step.yaml", max_peak_mib=float("nan")', "max_peak_mib=NaN: a number of MiB would be right*"),
        ('"scenarios/step.yaml", max_static_mib=float("inf")', "max_static_mib=Infinity: a number of MiB *"),
        ('"scenarios/step.yaml", max_dynamic_mib="150"', 'max_dynamic_mib="150": a number of MiB *'),
        ('"scenarios/step.yaml", max_peak_mib=True', "max_peak_mib=true: a number of MiB *"),
        ('"scenarios/step.yaml", max_peak_mib=-1', "max_peak_mib=-1: a number of MiB *"),
    ],
)
def test_a_wrong_call_is_one_clear_line(pytester, project, call, words):
    done = run(pytester, call)
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines([f"E*lora_gate: {words}"])
    assert "pytest_plugin.py" not in done.stdout.str()
