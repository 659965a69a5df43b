"""What the gate's decision looks like in CI: numbers in full, the worst first, and no name that becomes a command."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from lorabench.analysis.gate import Baseline, Decision, Policy, decide
from lorabench.analysis.gate.tolerances import Tolerance
from lorabench.case import Adapter
from lorabench.record import Memory, PhaseMemory, Proof, RecordError, Timing
from lorabench.report.gate import wording
from lorabench.report.gate.annotations import annotate, wanted
from lorabench.report.gate.junit import junit
from lorabench.report.gate.markdown import MOST_CHARACTERS, markdown
from lorabench.report.gate.plain import json_lines
from lorabench.report.gate.terminal import print_decision, print_obstacles

HOSTILE = [
    "::error::gone",
    "x\n::error::gone",
    "x\r\n::set-output name=a::b",
    "##[add-mask]x and ##vso[task.setvariable]y",
    "<script>alert(1)</script></details>",
    "| a | `b` | ``` @everyone",
    "../../../etc/passwd",
    "\x1b[31mred\x1b]0;title\x07",
    "\x00\x0b\ud800\ufffe]]>",
    "100%25 %0A::error::",
    "‮right to left",
    "x" * 5000,
]


@pytest.fixture
def gate(environment, make_record):
    """Decides over pairs of records; a pair's keywords change its head."""

    def run(*pairs, policy: Policy = Policy(), tolerances=(), new=()) -> Decision:  # noqa: B008
        base = [pair[0] for pair in pairs]
        head = [pair[1] for pair in pairs if pair[1] is not None] + list(new)
        known = {environment.id: environment}
        return decide(Baseline(tuple(base), known, tuple(tolerances)), head, known, policy)

    return run


@pytest.fixture
def cases(make_record):
    def make(number: int, **changes):
        case = {"adapter": Adapter(rank=number + 1), "axes": (("adapter.rank", number + 1),)}
        return [make_record(case=case, latency={}, **kept) for kept in ({}, changes)]

    return make


def memory(more: int = 0, **categories: int) -> Memory:
    peak = 150 * 2**20 + more
    return Memory(
        static_bytes=100 * 2**20,
        dynamic_bytes=peak - 100 * 2**20,
        peak_allocated_bytes=peak,
        peak_reserved_bytes=peak * 2,
        phases={"forward": PhaseMemory(100 * 2**20, 140 * 2**20, 139 * 2**20)},
        categories=categories,
    )


@pytest.fixture
def mixed(gate, cases, make_record):
    """A case that ran out of memory, a lost one, one that grew, one that shrank, an equal one, a new one."""
    base = {"memory": memory(activations=50, inputs=2), "proof": Proof(checkpointed_layers=4)}
    grown = replace(make_record(), latency={}, **base)
    more = replace(grown, memory=memory(512, activations=562, inputs=2), proof=Proof(checkpointed_layers=3))
    error = RecordError("OutOfMemoryError", "tried to allocate 2 GiB", "backward")
    return gate(
        cases(0, status="oom", error=error, memory=memory(7)),
        [cases(1)[0], None],
        [grown, more],
        cases(4, memory=memory(-512)),
        cases(5),
        new=[cases(6)[0]],
    )


def on_terminal(decision: Decision) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=100_000, highlight=False, markup=False, emoji=False)
    if decision.obstacles:
        print_obstacles(console, decision)
    else:
        print_decision(console, decision)
    return stream.getvalue()


def everywhere(decision: Decision) -> dict[str, str]:
    return {
        "terminal": on_terminal(decision),
        "json": "".join(f"{line}\n" for line in json_lines(decision)),
        "junit": junit(decision),
        "markdown": markdown(decision),
        "annotations": "".join(f"{line}\n" for line in annotate(decision)),
    }


def test_numbers_are_in_full_bytes_and_mib_with_what_grew_and_why(mixed):
    text = on_terminal(mixed)
    [row] = [line.split() for line in text.splitlines() if "157,286,912" in line and "peak allocated" in line]
    assert row == ["peak", "allocated", "157,286,400", "157,286,912", "+512", "150.0", "150.0", "+0.0004883"]
    assert "by category: activations +512 bytes (+0.0004883 MiB)" in text
    assert "built: checkpointed_layers 4 -> 3" in text
    assert "not judged: peak reserved: 314,572,800 bytes (300.0 MiB) -> 314,573,824 bytes" in text


def test_what_ran_out_of_memory_names_its_last_peak(mixed):
    assert (
        "oom in backward: OutOfMemoryError: tried to allocate 2 GiB; last peak: 157,286,407 bytes (150.0 MiB)"
        in on_terminal(mixed)
    )


def test_the_worst_comes_first_everywhere(mixed):
    names = [f"ranks[adapter.rank={rank}]" for rank in (1, 2, 4)]
    for kind, text in everywhere(mixed).items():
        places = [text.index(name) for name in names]
        assert places == sorted(places), kind
    assert on_terminal(mixed).splitlines()[-1] == (
        "failed: 6 cases (1 not ok, 1 lost, 1 more, 1 new, 1 fewer, 1 equal), 12 numbers"
    )


def test_fewer_bytes_ask_for_an_update(mixed):
    assert "notice: 1 case with fewer bytes: record it with --update" in on_terminal(mixed)


def test_junit_has_a_test_a_case_and_metric(mixed):
    root = ET.fromstring(junit(mixed))
    tests = root.findall("testsuite/testcase")
    numbers = sum(len(outcome.numbers) for outcome in mixed.outcomes)
    assert len(tests) == numbers + 3 == int(root.attrib["tests"])
    assert [int(root.attrib[name]) for name in ("failures", "errors")] == [3, 1]
    failed = {test.attrib["name"].split(": ")[-1] for test in tests if test.find("failure") is not None}
    assert failed == {"dynamic", "peak allocated", "status"}
    [error] = root.findall("testsuite/testcase/error")
    assert error.attrib["type"] == "oom"
    [grown] = [test for test in tests if test.find("failure") is not None and "peak" in test.attrib["name"]]
    assert "activations +512 bytes" in (grown.find("failure").text or "")


def test_json_says_what_the_table_says(mixed):
    *lines, whole = (json.loads(line) for line in json_lines(mixed))
    assert [line["kind"] for line in lines] == ["not ok", "lost", "more", "new", "fewer"]
    assert [line["fails"] for line in lines] == [True, True, True, False, False]
    assert lines[2]["numbers"][1] == {
        "metric": "memory.peak_allocated_bytes",
        "change": "more",
        "base_bytes": 150 * 2**20,
        "head_bytes": 150 * 2**20 + 512,
        "difference_bytes": 512,
        "tolerance_bytes": 0,
    }
    assert (whole["verdict"], whole["exit_code"], whole["cases"]["equal"]) == ("failed", 1, 1)


def test_annotations_are_for_github_alone_and_ten_of_a_level_at_most(gate, cases):
    assert wanted({"GITHUB_ACTIONS": "true"})
    assert not wanted({})
    assert not wanted({"GITHUB_ACTIONS": "false"})
    decision = gate(*(cases(number, memory=memory(1)) for number in range(40)))
    lines = list(annotate(decision))
    assert len(lines) == 10
    assert all(line.startswith("::error title=") for line in lines)


def test_markdown_stays_below_what_github_takes(gate, cases):
    decision = gate(*(cases(number, memory=memory(1, activations=number)) for number in range(600)))
    text = markdown(decision)
    assert len(text) < 65_536
    assert len(text) <= MOST_CHARACTERS + 200
    assert "would not fit" in text
    assert "600 more" in text.splitlines()[0]


def test_a_tolerance_that_was_exceeded_is_named(gate, cases):
    decision = gate(cases(0, memory=memory(9)), tolerances=[Tolerance("*", 8)])
    assert "more than the tolerance of 8 bytes" in junit(decision)


def test_times_warn_and_say_why(gate, make_record):
    slow = {"step": Timing((), 0.022, (0.021, 0.023), unstable=False)}
    decision = gate([make_record(), make_record(latency=slow)])
    text = on_terminal(decision)
    assert decision.exit_code == 0
    assert "warning: step: 11 ms -> 22 ms (+100.0%)" in text
    assert wording.WHY_TIMES_WARN in text
    assert "::warning title=" in everywhere(decision)["annotations"]


def test_not_comparable_is_an_error_in_each_format(gate, cases):
    base, head = cases(0)
    decision = gate([base, replace(head, source="predicted")])
    texts = everywhere(decision)
    assert texts["terminal"].startswith("not comparable: source: measured in the baseline, predicted here; ")
    assert texts["terminal"].count("\n") == 1
    assert ET.fromstring(texts["junit"]).find("testsuite/testcase/error") is not None
    assert texts["annotations"].count("::error ") == 1
    assert "not comparable" in texts["markdown"]


@pytest.mark.parametrize("name", HOSTILE)
def test_what_strangers_wrote_is_escaped_for_each_reader(gate, make_record, name):
    strange = {"name": name, "scenario": name, "latency": {}}
    whole = replace(make_record(**strange), memory=replace(memory(), phases={name: PhaseMemory(1, 2, 3)}))
    grown = replace(
        whole,
        memory=replace(whole.memory, phases={name: PhaseMemory(1, 9, 3)}, categories={name: 5}),
        observations={"attribution": {"modules": {name: {name: 5}}}},
    )
    error = RecordError(name, name, name)
    ended = make_record(case={"adapter": Adapter(rank=9)}, status="failed", error=error, memory=None, **strange)
    lost = make_record(case={"adapter": Adapter(rank=7)}, **strange)
    decision = gate([whole, grown], [lost, None], new=[ended])
    texts = everywhere(decision)
    for kind in ("terminal", "json", "markdown"):
        for line in texts[kind].splitlines():
            assert not line.lstrip().startswith("::"), kind
            assert line.isprintable(), kind
            assert "##[" not in line, kind
            assert "##vso[" not in line, kind
    for line in texts["json"].splitlines():
        json.loads(line)
    for line in texts["annotations"].splitlines():
        assert line.startswith(("::error title=", "::warning title="))
        assert line.count("::") >= 2
        assert "##[" not in line
    root = ET.fromstring(texts["junit"])
    assert {element.tag for element in root.iter()} <= {*("testsuites", "testsuite", "testcase"), "failure", "error"}
    assert max(map(len, texts["terminal"].splitlines())) < 4000
    outside = texts["markdown"].split("`")[::2] if "`" not in name else []
    assert not any("<script" in part or "@everyone" in part for part in outside)


@given(st.text(), st.text())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_any_name_is_one_line_and_well_formed(gate, make_record, name, other):
    base = make_record(name=name, scenario=other, latency={})
    decision = gate([base, replace(base, memory=memory(1))])
    texts = everywhere(decision)
    ET.fromstring(texts["junit"])
    assert all(line.isprintable() for text in texts.values() for line in text.split("\n"))
    assert texts["annotations"].count("\n") == 2
