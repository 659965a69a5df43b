"""What is printed and written of a comparison."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from lorabench.analysis.paired import Judgement, Rules
from lorabench.analysis.paired.comparison import Answer, Comparison
from lorabench.case import Case
from lorabench.environment import Environment
from lorabench.report.paired import files, words
from lorabench.report.paired.terminal import print_comparison

JUDGEMENTS = {
    "same": Judgement("equivalent", True, 8, 1.001, 0.985, 1.012, 0.02),
    "worse": Judgement("slower", True, 4, 1.1, 1.05, 1.15, 0.06),
    "noisy": Judgement("inconclusive", False, 24, 1.02, 0.9, 1.15, 0.14, 310),
}


def answer(name: str, **changes: object) -> Answer:
    case = Case(name, "train", "llama-tiny")
    made = Answer(case, "step", JUDGEMENTS[name], 0.0201, 0.0221, {"base": 0, "head": 0}, None)
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture
def compared(environment: Environment) -> Callable[..., Comparison]:
    def make(*answers: Answer) -> Comparison:
        head = replace(environment, versions={**environment.versions, "peft": "0.22.0", "torch": "2.14.0"}, id="other")
        return Comparison({"base": environment, "head": head}, Rules(), answers, "pairs", 36, 412.3)

    return make


def printed(comparison: Comparison, strict: bool = False) -> list[str]:
    stream = StringIO()
    print_comparison(Console(file=stream, width=200, markup=False), comparison, strict)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_versions_that_differ_are_named(compared):
    lines = list(words.sides(compared(answer("same")).environments))
    assert [line.partition(":")[0] for line in lines] == ["base", "head", "differs"]
    assert lines[2] == "differs: peft 0.21.2 -> 0.22.0, torch 2.13.0+cpu -> 2.14.0"


def test_the_worst_comes_first_with_its_figures(compared):
    lines = printed(compared(answer("same"), answer("noisy"), answer("worse")))
    assert [line.split()[0] for line in lines[1:4]] == ["worse", "noisy", "same"]
    assert lines[1].split() == ["worse", "step", "20.1", "22.1", "+10.0%", "+5.0%", "to", "+15.0%", "4", "slower"]
    assert lines[4] == (
        "  noisy, step: inconclusive after 24 pairs: about 310 would settle it; a slow-down of 14.0% would have shown"
    )
    assert lines[-1].startswith("failed: 1 slower, 1 inconclusive, 1 equivalent; 36 pairs in 412 s")


@pytest.mark.parametrize(("strict", "code"), [(False, 0), (True, 1)])
def test_inconclusive_fails_if_strict(compared, strict, code):
    comparison = compared(answer("same"), answer("noisy"))
    assert comparison.exit_code(strict) == code
    assert printed(comparison, strict)[-1].startswith("failed" if strict else "passed")


def test_a_lost_process_is_an_error_and_exit_4_unless_something_is_slower(compared):
    lost = answer("noisy", lost={"base": 0, "head": 2}, error="head ended oom: no \x1b[31mmemory\nleft")
    comparison = compared(answer("same"), lost)
    assert (comparison.lost, comparison.exit_code(False)) == (2, 4)
    assert compared(answer("worse"), lost).exit_code(False) == 1
    line = next(line for line in printed(comparison) if "did not end ok" in line)
    assert "2 of head" in line
    assert "\x1b" not in line
    root = ET.fromstring(files.junit(comparison, strict=False))
    assert [error.attrib["type"] for error in root.iter("error")] == ["lost"]


def test_junit_has_a_test_for_each_metric(compared):
    root = ET.fromstring(files.junit(compared(answer("same"), answer("worse"), answer("noisy")), strict=False))
    suite = root.find("testsuite")
    assert suite is not None
    assert [suite.attrib[name] for name in ("tests", "failures", "errors")] == ["3", "1", "0"]
    [failure] = root.iter("failure")
    assert failure.attrib["type"] == "slower"
    assert "+10.0%" in failure.attrib["message"]


def test_names_from_strangers_stay_text(compared):
    evil = "a|b`</td><script>@everyone\n::error::"
    case = Case(evil, "train", "llama-tiny")
    comparison = compared(answer("worse", case=case))
    text = files.markdown(comparison, strict=False)
    [row] = [line for line in text.splitlines() if "everyone" in line and line.startswith("|")]
    assert row.replace("\\|", "").count("|") == 9
    assert ET.fromstring(files.junit(comparison, strict=False)).find("testsuite/testcase") is not None
