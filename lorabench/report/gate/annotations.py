"""Annotations of a GitHub workflow run: commands that its runner reads from a step's output.

https://docs.github.com/actions/reference/workflow-commands-for-github-actions
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lorabench.analysis.gate.decision import Decision
from lorabench.report.gate import wording

MOST = 9
"""Of errors and of warnings each: GitHub shows ten of a step, and the first says how it ended."""


def wanted(environment: Mapping[str, str]) -> bool:
    """Whether this is a step of a GitHub workflow."""
    return environment.get("GITHUB_ACTIONS") == "true"


def annotate(decision: Decision) -> Iterator[str]:
    """A line for the verdict, and one for each of the worst cases that it rests on."""
    if decision.verdict != "passed":
        yield _command("error", "lorabench gate", wording.verdict_line(decision))
    if decision.verdict == "not comparable":
        return
    failing, telling = [], []
    for outcome in decision.outcomes:
        if decision.policy.fails_case(outcome):
            cause = next(wording.causes(outcome), "")
            failing.append((outcome, f"{wording.headline(outcome, decision)}{f'; {cause}' if cause else ''}"))
        elif outcome.kind != "equal":
            telling.append((outcome, wording.headline(outcome, decision)))
        if outcome.times:
            telling.append((outcome, f"{'; '.join(wording.times(outcome))}; {wording.WHY_TIMES_WARN}"))
    for level, found in (("error", failing), ("warning", telling)):
        for outcome, text in found[:MOST]:
            yield _command(level, wording.named(outcome), text)


def _command(level: str, title: str, message: str) -> str:
    # actions/toolkit, packages/core/src/command.ts: escapeData and escapeProperty.
    data = message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    name = title.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A").replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={name}::{data}"
