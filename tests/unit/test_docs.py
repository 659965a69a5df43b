"""The README and the pages of ``docs/`` say what is there: scenarios load, commands parse, examples run, links lead."""

from __future__ import annotations

import inspect
import io
import json
import re
from collections.abc import Iterable
from contextlib import redirect_stdout
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from command_line import lorabench_in
from documents import PAGES, ROOT, Block, anchors, blocks, commands, inline_code, links, program, split
from typer.main import get_command

from lorabench.case import Case
from lorabench.cli.app import app
from lorabench.pytest_plugin import _UPDATE, LoraGate
from lorabench.record import Memory
from lorabench.scenario import load_scenarios
from lorabench.scenario.document import parse_document
from lorabench.scenario.schema import AdapterSettings, CaseSettings

DOCS = ROOT / "docs"
CLI: Any = get_command(app)
SHELL = [block for page in PAGES for block in blocks(page, "bash", "console")]
SCENARIOS = [block for page in PAGES for block in blocks(page, "yaml")]
SOURCES = [path.read_text(encoding="utf-8") for path in (ROOT / "lorabench").rglob("*.py")]
# Made by a command, or named in place of one's own.
NOT_COMMITTED = re.compile(r"reports/|.*\b(FILE|NAME)\b")


def label(value: Any) -> str | None:
    return value.name if isinstance(value, Path) else str(value) if isinstance(value, Block) else None


def cases_of(text: str, folder: Path, device: str = "cpu") -> tuple[Case, ...]:
    file = folder / "scenario.yaml"
    file.write_text(text)
    [scenario] = load_scenarios([file], device)
    return scenario.cases


def check_commands(commands_: Iterable[list[str]]) -> None:
    """Has the command line parse those of lorabench without running them; make must have its targets."""
    for program_name, *arguments in filter(None, commands_):
        if Path(program_name).name == "lorabench":
            name, *rest = arguments
            assert name in CLI.commands, f"lorabench {name}"
            try:
                CLI.commands[name].make_context(f"lorabench {name}", rest)
            except Exception as error:
                raise AssertionError(f"lorabench {' '.join(arguments)}: {error}") from error
        elif program_name == "make":
            check_target(arguments)


def check_target(arguments: list[str]) -> None:
    targets = [word for word in arguments if "=" not in word]
    for target in targets:
        assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.MULTILINE), f"make {target}"


def options_of(command: Any) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts} | {"--help", "-h"}


def test_there_is_something_to_check():
    assert {page.name for page in PAGES} >= {"README.md", "measurement.md", "scenarios.md", "claims.md"}
    assert len(SCENARIOS) >= 4
    assert len(SHELL) >= 4


@pytest.mark.parametrize("device", ["cpu", "cuda", "fake"])
@pytest.mark.parametrize("block", SCENARIOS, ids=label)
def test_scenarios_load(block, device, tmp_path):
    assert cases_of(block.text, tmp_path, device)


@pytest.mark.parametrize("block", [block for page in PAGES for block in blocks(page, "json")], ids=label)
def test_json_is_json(block):
    json.loads(block.text)


@pytest.mark.parametrize("block", SHELL, ids=label)
def test_commands_can_be_typed(block):
    check_commands(commands(block))


@pytest.mark.parametrize(
    "line", ["lorabench rnu x.yaml", "true && lorabench run x.yaml --devce cpu", "lorabench fit x.yaml", "make benhc"]
)
def test_a_wrong_command_would_be_seen(line):
    with pytest.raises(AssertionError):
        check_commands(split(line))


@pytest.mark.parametrize("block", SHELL, ids=label)
def test_paths_in_commands_exist(block):
    for words in commands(block):
        for word in words:
            if word.startswith(("scenarios/", "results/")) and not NOT_COMMITTED.match(word):
                assert list(ROOT.glob(word)), word


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_commands_and_options_in_sentences_exist(page):
    known = options_of(CLI).union({_UPDATE}, *map(options_of, CLI.commands.values()))
    for text in inline_code(page):
        first, *rest = next(split(text)) if re.match(r"(lorabench|make|--)", text) else [""]
        if first == "make":
            check_target(rest)
        elif first == "lorabench" and rest and not rest[0].isupper():
            assert rest[0] in CLI.commands or rest[0].startswith("-"), text
            command = CLI.commands.get(rest[0], CLI)
            assert {word for word in rest if word.startswith("-")} <= options_of(command), text
        elif first.startswith("--"):
            assert first.partition("=")[0] in known, text


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_paths_in_sentences_exist(page):
    for text in inline_code(page):
        is_path = re.fullmatch(r"[\w.-]+/[\w./-]*", text) and (ROOT / text.partition("/")[0]).is_dir()
        if is_path and not NOT_COMMITTED.match(text):
            assert (ROOT / text).exists(), text


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_links_lead_somewhere(page):
    for link in links(page):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "gate.md"], ids=label)
def test_parts_of_records_have_these_names(page):
    """Of every page but the gate's, which has metrics of its own beside a record's."""
    memory = {field.name for field in fields(Memory)}
    for text in inline_code(page):
        part, _, rest = text.partition(".")
        name = rest.partition(".")[0]
        if part == "memory" and name != "yaml":
            assert name in memory, text
        elif part == "observations":
            assert any(f'"{name}"' in source for source in SOURCES), text


def test_names_that_are_said_to_be_in_a_file_are_there():
    named = [found for page in PAGES for found in re.findall(r"`(\w+)` in `([\w/]+\.py)`", page.read_text())]
    assert len(named) >= 8
    for name, path in named:
        assert re.search(rf"\b{name}\b", (ROOT / path).read_text()), (name, path)


def test_the_listing_of_a_scenario_is_the_commands(tmp_path):
    page = DOCS / "scenarios.md"
    [shown] = [block for block in blocks(page, "console") if "$ lorabench list" in block.text]
    [scenario] = [block for block in blocks(page, "yaml") if block.text.startswith("scenario: rank-cost")]
    (tmp_path / "rank-cost.yaml").write_text(scenario.text)
    [[_, *arguments]] = commands(shown)
    done = lorabench_in(tmp_path, *arguments)
    assert done.stdout.rstrip() == shown.text.partition("\n")[2].rstrip()


def test_the_defaults_are_all_the_defaults(tmp_path):
    [block] = [block for block in blocks(DOCS / "scenarios.md", "yaml") if "scenario: everything" in block.text]
    data = parse_document(block.text, "everything.yaml").data
    assert set(data) == {"scenario", "question", "measure", *CaseSettings.model_fields}
    assert set(data["adapter"]) == set(AdapterSettings.model_fields)
    [shown] = cases_of(block.text, tmp_path)
    [least] = cases_of("scenario: least\nquestion: Why?\ntask: train\nmodel: llama-tiny\n", tmp_path)
    assert replace(shown, scenario="least") == least


def test_the_claim_can_be_judged(monkeypatch):
    page = DOCS / "claims.md"
    monkeypatch.chdir(ROOT)
    with redirect_stdout(io.StringIO()) as printed:
        exec(compile(program(page), page.name, "exec"), {"__name__": "claim"})
    [shown] = blocks(page, "text")
    assert printed.getvalue() == shown.text


def test_the_claims_verdicts(make_record):
    """Each verdict that it can give, as the page asks of a claim's tests."""
    namespace: dict[str, Any] = {"__name__": "claim"}
    exec(blocks(DOCS / "claims.md", "python")[0].text, namespace)
    from lorabench.analysis.claims.evidence import Evidence, Scope

    def pair(rank: int, ratio: float) -> list[Any]:
        from lorabench.case import Adapter

        return [
            make_record(
                case={"optimizer": optimizer, "adapter": Adapter(rank=rank), "axes": ()},
                memory=Memory(dynamic_bytes=int(1000 * share)),
            )
            for optimizer, share in (("adamw", 1.0), ("adamw-8bit", ratio))
        ]

    def verdict(*records: Any) -> tuple[str, float | None]:
        scope = Scope("cpu", "Imaginary CPU", "measured")
        finding = namespace["EIGHT_BIT_STATE"].test(Evidence(scope, tuple(records)))
        return finding.verdict, finding.effect

    assert verdict(*pair(64, 0.9)) == ("supported", 0.9)
    assert verdict(*pair(1, 1.0)) == ("refuted", 1.0)
    assert verdict(*pair(64, 0.9), *pair(1, 1.0)) == ("conditional", 1.0)
    assert verdict(*pair(64, 0.9)[:1]) == ("not tested", None)


def test_the_readme_reads_results(tmp_path, monkeypatch):
    [example] = [block for block in blocks(ROOT / "README.md", "python") if "lorabench.load(" in block.text]
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "FILE.jsonl").symlink_to(ROOT / "results" / "cpu" / "bench.jsonl")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    exec(example.text, namespace)
    # Also those that ran for other scenarios.
    assert sorted(namespace["ranks"]["adapter_rank"]) == [1, 2, 4, 8, 16, 32, 64, 128, 256]


def test_the_readme_calls_the_fixture_as_it_is():
    [example] = [block for block in blocks(ROOT / "README.md", "python") if "def test_" in block.text]
    namespace: dict[str, Any] = {}
    exec(example.text, namespace)
    calls = []

    class Recorder:
        def check(self, *args: Any, **kwargs: Any) -> None:
            calls.append(inspect.signature(LoraGate.check).bind(self, *args, **kwargs))

    tests = [test for name, test in namespace.items() if name.startswith("test_")]
    for test in tests:
        test(Recorder())
    assert len(calls) == len(tests) == 2


def test_every_python_example_is_run_by_some_test():
    executed = {"README.md": 2, "claims.md": 2, "devices.md": 2, "measurement.md": 1, "prediction.md": 1}
    assert {page.name: len(found) for page in PAGES if (found := blocks(page, "python"))} == executed
