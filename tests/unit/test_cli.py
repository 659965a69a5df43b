"""The command line as its users meet it: real processes, their exit codes, and what they say where."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lorabench
from lorabench.case import case_from_dict
from lorabench.record import AlsoIn

SCENARIO = """\
scenario: ranks
question: What does a higher rank cost?
task: train
model: llama-tiny
sequence_length: 16
measure: {warmup: 1, steps: 3}
matrix:
  adapter.rank: [4, 8]
"""


@pytest.fixture
def cli(tmp_path):
    """Runs ``lorabench`` in an empty folder, its output in pipes."""

    def run(*arguments: str | bytes, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "lorabench", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(lorabench.__file__).parents[1]), **environment},
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=300,
        )

    return run


@pytest.fixture
def scenario(tmp_path) -> str:
    (tmp_path / "ranks.yaml").write_text(SCENARIO)
    return "ranks.yaml"


@pytest.fixture
def results(tmp_path, environment, make_record, failed_record) -> str:
    lines = [environment, make_record(), failed_record]
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(line.to_dict()) + "\n" for line in lines))
    return "results.jsonl"


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Exit code 2, nothing on stdout, and one line on stderr that has ``words`` in it."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.endswith("\n")
    assert done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr


def test_version(cli):
    done = cli("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"lorabench {lorabench.__version__}\n", "")


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_lists_the_commands(cli, option):
    done = cli(option)
    assert done.returncode == 0
    for command in ("run", "predict", "list", "show", "env", "schema"):
        assert re.search(rf"\b{command}\b", done.stdout)


@pytest.mark.parametrize("command", ["run", "predict", "list", "show", "env", "schema"])
def test_each_command_explains_itself(cli, command):
    done = cli(command, "--help")
    assert done.returncode == 0
    assert "Usage: lorabench" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["Missing command"]),
        (["rnu"], ["No such command 'rnu'", "run"]),
        (["claimz"], ["No such command"]),
        (["run"], ["Missing argument"]),
        (["run", "--devce", "cpu"], ["--devce", "--device"]),
        (["run", "x.yaml", "--device", "gpu"], ["--device", "gpu", "cpu"]),
        (["run", "x.yaml", "--device", "cuda:0,cuda:1"], ["--device", "cuda:0,cuda:1", "--devices"]),
        (["run", "x.yaml", "--device", "cuda:99"], ["--device", "cuda:99", "no such GPU"]),
        (["run", "x.yaml", "--devices", "cpu,cpu"], ["--devices", "cpu twice"]),
        (["run", "x.yaml", "--devices", "cpu", "--device", "cpu"], ["--devices", "--device"]),
        (["run", "x.yaml", "--set"], ["--set"]),
        (["run", "x.yaml", "--json=yes"], ["--json"]),
        (["run", "x.yaml", "--resume", "--force", "--out", "a"], ["--resume", "--force"]),
        (["run", "x.yaml", "--resume"], ["--out"]),
        (["run", "missing.yaml"], ["missing.yaml"]),
        (["run", "no\nsuch\x1b[31m.yaml"], ["no"]),
        (["run", b"\xff\xfe.yaml"], []),
        (["run", "."], ["."]),
        (["list", "missing.yaml"], ["missing.yaml"]),
        (["list", "/dev/null"], ["/dev/null"]),
        (["show", "missing.jsonl"], ["missing.jsonl"]),
        (["show", "."], ["."]),
        (["show", "a", "b", "c"], ["c"]),
        (["env", "--device", "tpu"], ["tpu"]),
        (["schema", "extra"], ["extra"]),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(cli, arguments, words):
    assert_refused(cli(*arguments, COLUMNS="40"), *words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("task: train", "task: trian"), ["ranks.yaml:3:", "task", "train"]),
        (("model: llama-tiny", "model: lama-tiny"), ["ranks.yaml:4:", "model", "llama-tiny"]),
        (("sequence_length: 16", "sequence_lenght: 16"), ["ranks.yaml:5:", "sequence_length"]),
        (("[4, 8]", "[]"), ["ranks.yaml:8:", "adapter.rank"]),
        (("matrix:", "matrix: ["), ["ranks.yaml:"]),
    ],
)
def test_a_bad_scenario_is_one_line_with_its_place(cli, scenario, tmp_path, change, words):
    (tmp_path / scenario).write_text(SCENARIO.replace(*change))
    for command in ("list", "run", "predict"):
        assert_refused(cli(command, scenario), *words)


@pytest.mark.parametrize("command", ["run", "predict"])
@pytest.mark.parametrize("path", ["ranks.yaml", "."])
def test_the_scenario_is_not_overwritten(cli, scenario, tmp_path, command, path):
    for options in ((), ("--force",), ("--resume",)):
        assert_refused(cli(command, path, "--out", f"./{scenario}", *options), f"PATH and --out: both are {scenario}")
    assert (tmp_path / scenario).read_text() == SCENARIO


def test_force_replaces_results_alone(cli, scenario, tmp_path):
    (tmp_path / "notes.txt").write_text("what I found\n")
    assert_refused(cli("predict", scenario, "--out", "notes.txt", "--force"), "notes.txt: not a results file")
    assert (tmp_path / "notes.txt").read_text() == "what I found\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["-k", "no-such-case"],
        ["-k", "ranks and ("],
        ["--set", "batch_size"],
        ["--set", "no_such_key=1"],
        ["--set", "batch_size=many"],
        ["--model", "no-such-preset"],
    ],
)
def test_bad_options_for_good_scenarios(cli, scenario, arguments):
    assert_refused(cli("list", scenario, *arguments))


def test_list_names_cases_and_runs_nothing(cli, scenario, tmp_path):
    done = cli("list", scenario)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "What does a higher rank cost?" in done.stdout
    assert "adapter.rank=4" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == [scenario]


def test_what_the_models_option_cannot_be_is_left_out_and_told(cli, tmp_path):
    (tmp_path / "tasks.yaml").write_text(
        "scenario: tasks\nquestion: What?\ntask: train\nmodel: llama-tiny\n"
        "include:\n  - {model: t5-small, adapter.task_type: SEQ_2_SEQ_LM, adapter.target_modules: [q]}\n"
    )
    done = cli("list", "tasks.yaml", "--model", "llama-2-7b")
    assert done.returncode == 0
    assert "1 case in 1 scenario" in done.stdout
    assert done.stderr.startswith("left out 1 case: tasks.yaml:6: include[0].adapter.task_type: llama-2-7b cannot be")
    assert_refused(cli("list", "tasks.yaml", "--model", "t5-small", "--set", "adapter.task_type=CAUSAL_LM"))


def test_list_as_json_is_whole_cases(cli, scenario):
    done = cli("list", scenario, "--json", "-k", "8", "--set", "batch_size=3", "--model", "gpt2")
    [line] = done.stdout.splitlines()
    data = json.loads(line)
    assert (data["name"], data["model"], data["batch_size"], data["adapter"]["rank"]) == (
        "ranks[adapter.rank=8]",
        "gpt2",
        3,
        8,
    )
    case = case_from_dict({name: value for name, value in data.items() if name not in ("name", "key")})
    assert (case.name, case.key) == (data["name"], data["key"])


def test_show_prints_the_table(cli, results):
    done = cli("show", results)
    assert done.returncode == 0, "what the records say is not the command's own failure"
    assert "failed in forward: RuntimeError: no such kernel" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("which", ["key", "start of the key", "name"])
def test_show_prints_one_record_whole(cli, results, failed_record, which):
    key = {"key": failed_record.key, "start of the key": failed_record.key[:6], "name": failed_record.name}[which]
    done = cli("show", results, key, "--json")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [json.loads(json.dumps(failed_record.to_dict()))]
    assert "message: no such kernel" in cli("show", results, key).stdout


def test_show_has_a_case_in_each_scenario_that_asks_for_it(cli, tmp_path, environment, make_record):
    record = make_record(also=(AlsoIn("lengths", "lengths[sequence_length=512]", (("sequence_length", 512),)),))
    path = tmp_path / "shared.jsonl"
    path.write_text("".join(json.dumps(line.to_dict()) + "\n" for line in (environment, record)))
    headings = [line for line in cli("show", path).stdout.splitlines() if "varied" in line]
    assert [heading.partition(" ")[0] for heading in headings] == ["lengths", "ranks"]
    assert "varied: sequence_length" in headings[0]
    shown = json.loads(cli("show", path, "lengths[sequence_length=512]", "--json").stdout)
    assert shown == json.loads(json.dumps(record.to_dict()))
    assert 'also: ["lengths[sequence_length=512]"]' in cli("show", path, record.key).stdout
    assert_refused(cli("show", path, "lengths[sequence_length=51]"), "lengths[sequence_length=512]")


def test_show_suggests_the_nearest_name(cli, results):
    assert_refused(cli("show", results, "ranks[adapter.rank=6]"), "ranks[adapter.rank=")
    assert_refused(cli("show", results, ""), "''")


def test_show_refuses_what_is_no_results_file(cli, tmp_path):
    (tmp_path / "not.jsonl").write_text("hello\n")
    assert_refused(cli("show", "not.jsonl"), "not.jsonl:1")


def test_show_tells_of_a_torn_line_on_stderr(cli, results, tmp_path):
    path = tmp_path / results
    path.write_text(path.read_text() + '{"type": "rec')
    done = cli("show", results, "--json")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr.count("\n") == 1
    assert "torn" in done.stderr


def test_env_tells_versions_as_text_and_as_json(cli):
    text, data = cli("env").stdout, cli("env", "--json").stdout
    environment = json.loads(data)
    assert f"torch: {environment['versions']['torch']}" in text
    assert environment["lorabench"] == lorabench.__version__
    assert data.count("\n") == 1


def test_schema_is_json_schema(cli):
    schema = json.loads(cli("schema").stdout)
    assert set(schema["required"]) == {"scenario", "question", "task", "model"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(cli, shell):
    environment = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = cli("--show-completion", shell, **environment)
    assert done.returncode == 0
    assert "_LORABENCH_COMPLETE" in done.stdout


def test_completion_knows_commands_and_presets(cli):
    def complete(words: str) -> str:
        position = str(len(words.split()))
        return cli(_LORABENCH_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=position).stdout

    assert {"run", "predict", "list", "show"} <= set(complete("lorabench ").split())
    assert "llama-2-7b" in complete("lorabench run x.yaml --model ").split()


def test_a_reader_that_leaves_early_ends_the_command_in_silence(results, tmp_path):
    lines = (tmp_path / results).read_text().splitlines(keepends=True)
    record = json.loads(lines[1])
    many = [json.dumps({**record, "seed": seed}) + "\n" for seed in range(500)]
    (tmp_path / results).write_text(lines[0] + "".join(many))
    command = f"{sys.executable} -m lorabench show {results} --json | head -n 1; echo ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONPATH": str(Path(lorabench.__file__).parents[1])}
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    assert done.stdout.splitlines()[1:] == ["141"]


def test_a_full_disk_under_stdout_is_one_line(results, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(lorabench.__file__).parents[1])}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "lorabench", "show", results],
            cwd=tmp_path,
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["list ranks.yaml", "show results.jsonl --json", "--version"])
def test_a_closed_stdout_is_none_of_the_commands_business(scenario, results, tmp_path, command):
    environment = {**os.environ, "PYTHONPATH": str(Path(lorabench.__file__).parents[1])}
    command = f"{sys.executable} -m lorabench {command} >&-"
    done = subprocess.run(command, shell=True, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.fixture
def broken_show(tmp_path) -> Path:
    """A start-up module that makes reading results fail as only a bug could."""
    (tmp_path / "sitecustomize.py").write_text(
        "import lorabench.results\n"
        "def read_results(*paths):\n"
        "    raise KeyError('a\\nbug')\n"
        "lorabench.results.read_results = read_results\n"
    )
    return tmp_path


def test_an_internal_error_is_one_line_that_asks_for_a_report(cli, results, broken_show):
    path = os.pathsep.join([str(broken_show), str(Path(lorabench.__file__).parents[1])])
    done = cli("show", results, PYTHONPATH=path)
    assert done.returncode == 70
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "KeyError" in done.stderr
    assert "LORABENCH_DEBUG=1" in done.stderr
    traced = cli("show", results, PYTHONPATH=path, LORABENCH_DEBUG="1")
    assert traced.returncode == 70
    assert "Traceback" in traced.stderr
