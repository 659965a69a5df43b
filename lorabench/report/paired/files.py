"""The files that CI shows: JUnit XML and Markdown."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from lorabench.analysis.paired.comparison import Answer, Comparison
from lorabench.report.page.markdown import code
from lorabench.report.paired import words

SUITE = "lorabench ab"


def junit(comparison: Comparison, strict: bool) -> str:
    """A test for each case and metric. A regression is a failure, a case whose processes were lost an error."""
    suite = ET.Element("testsuite", name=SUITE)
    failing = comparison.fails(strict)
    for answer in words.worst_first(comparison):
        test = ET.SubElement(
            suite, "testcase", classname=answer.case.scenario, name=f"{words.name(answer)}: {answer.metric}", time="0"
        )
        text = "; ".join([_figures(answer), *words.notes(answer)])
        if answer in failing:
            ET.SubElement(test, "failure", type=answer.verdict, message=text)
        elif any(answer.lost.values()):
            ET.SubElement(test, "error", type="lost", message=text)
        else:
            ET.SubElement(test, "system-out").text = text
    for attribute, tag in (("tests", "testcase"), ("failures", "testcase/failure"), ("errors", "testcase/error")):
        suite.set(attribute, str(len(suite.findall(tag))))
    root = ET.Element("testsuites", name=SUITE)
    root.append(suite)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def markdown(comparison: Comparison, strict: bool) -> str:
    """The verdict, then the table, the worst first, then what was compared, folded away."""
    mark = "❌" if comparison.fails(strict) else "⚠️" if comparison.lost else "✅"
    lines = [
        f"### {mark} Time: {words.verdict_line(comparison, strict)}",
        "",
        "| case | metric | base ms | head ms | change | interval | pairs | verdict |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    answers = words.worst_first(comparison)
    for answer in answers:
        judgement = answer.judgement
        cells = [
            str(code(words.name(answer))),
            answer.metric,
            words.milliseconds(answer.base_s),
            words.milliseconds(answer.head_s),
            words.change(judgement),
            words.interval(judgement),
            str(judgement.pairs),
            answer.verdict,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    # In code: a message may name @someone, whom GitHub would tell.
    notes = [f"- {code(f'{words.name(answer)}: {note}')}" for answer in answers for note in words.notes(answer)]
    told = [f"- {code(text)}" for text in words.sides(comparison.environments)]
    lines += ["", *notes, "", "<details><summary>what was compared</summary>", "", *told, "",
              words.legend(comparison), "", "</details>", ""]  # fmt: skip
    return "\n".join(lines)


def _figures(answer: Answer) -> str:
    judgement = answer.judgement
    return (
        f"{answer.verdict}: {words.milliseconds(answer.base_s)} ms to {words.milliseconds(answer.head_s)} ms, "
        f"{words.change(judgement)} ({words.interval(judgement)}), {judgement.pairs} pairs"
    )
