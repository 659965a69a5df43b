"""JUnit XML: a test case for each case and metric. A regression is a failure, a case that did not end ok an error."""

from __future__ import annotations

from collections import defaultdict
from xml.etree import ElementTree as ET

from lorabench.analysis.gate.comparison import Number, Outcome
from lorabench.analysis.gate.decision import Decision
from lorabench.report.gate import wording

SUITES = "lorabench gate"


def junit(decision: Decision) -> str:
    """A suite for each scenario. Where nothing is comparable there is one test case, which is an error."""
    root = ET.Element("testsuites", name=SUITES)
    suites: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in decision.outcomes:
        suites[wording.plain(outcome.record.scenario)].append(outcome)
    if decision.verdict == "not comparable":
        suite = ET.SubElement(root, "testsuite", name="comparability")
        test = ET.SubElement(suite, "testcase", classname="comparability", name="the baseline is comparable")
        ET.SubElement(test, "error", type="not comparable", message=wording.verdict_line(decision))
        suites = {}
    for scenario in sorted(suites):
        suite = ET.SubElement(root, "testsuite", name=scenario)
        for outcome in suites[scenario]:
            _add_outcome(suite, outcome, decision)
    for suite in root:
        _count(suite, [suite])
    _count(root, list(root))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=False).join(
        ('<?xml version="1.0" encoding="UTF-8"?>\n', "\n")
    )


def _add_outcome(suite: ET.Element, outcome: Outcome, decision: Decision) -> None:
    whole = outcome.base is None or outcome.head is None or outcome.kind == "not ok"
    if whole or not outcome.numbers:
        test = _test(suite, outcome, "status")
        if outcome.kind == "not ok":
            ET.SubElement(test, "error", type=outcome.record.status, message=wording.headline(outcome, decision))
        elif decision.policy.fails(outcome.kind):
            ET.SubElement(test, "failure", type=outcome.kind, message=wording.headline(outcome, decision))
        elif whole:
            ET.SubElement(test, "system-out").text = wording.headline(outcome, decision)
        return
    for number in outcome.numbers:
        _add_number(_test(suite, outcome, wording.metric_title(number)), number, outcome, decision)


def _add_number(test: ET.Element, number: Number, outcome: Outcome, decision: Decision) -> None:
    if decision.policy.fails(number.change):
        failure = ET.SubElement(test, "failure", type=number.change, message=wording.told(number))
        failure.text = "\n".join(wording.causes(outcome))
    elif number.change != "equal":
        ET.SubElement(test, "system-out").text = wording.told(number)


def _test(suite: ET.Element, outcome: Outcome, metric: str) -> ET.Element:
    return ET.SubElement(
        suite,
        "testcase",
        classname=suite.attrib["name"],
        name=f"{wording.named(outcome)}: {metric}",
        time=f"{max(outcome.record.wall_s, 0.0):.3f}" if metric == "status" else "0.000",
    )


def _count(element: ET.Element, suites: list[ET.Element]) -> None:
    for attribute, tag in (("tests", "testcase"), ("failures", "testcase/failure"), ("errors", "testcase/error")):
        element.set(attribute, str(sum(len(suite.findall(tag)) for suite in suites)))
