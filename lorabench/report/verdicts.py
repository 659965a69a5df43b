"""Verdicts as a table on the terminal, and below it what those that are not settled lack."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lorabench.analysis.claims.claim import Finding, Judgement, Verdict
from lorabench.analysis.claims.evidence import Scope
from lorabench.report.terminal import print_line
from lorabench.wording import one_line

VERDICT_STYLES: dict[Judgement, str] = {
    "supported": "green",
    "refuted": "bold red",
    "conditional": "yellow",
    "inconclusive": "cyan",
    "not tested": "dim",
}
LEGEND = "effect: its 95% interval in brackets, then its unit; n: samples or cases behind it"
_ABSENT = "-"


def print_verdicts(console: Console, verdicts: Sequence[Verdict]) -> None:
    """A table for each scope, which heads it; nothing but a line where there is nothing to judge."""
    scopes: dict[Scope, list[Verdict]] = {}
    for verdict in verdicts:
        scopes.setdefault(verdict.scope, []).append(verdict)
    for scope, members in scopes.items():
        print_line(console, Text(one_line(_heading(scope)), style="bold"))
        console.print(_table(members))
        for verdict in members:
            if note := _note(verdict.finding):
                style = VERDICT_STYLES[verdict.finding.verdict]
                print_line(console, Text.assemble("  ", (verdict.claim.id, style), f": {one_line(note)}"))
        print_line(console)
    print_line(console, Text(LEGEND if scopes else "no records to judge claims by", style="dim"))


def effect(finding: Finding) -> str:
    """``1.43 [1.38, 1.5]``: four digits, and the interval where there is one."""
    if finding.effect is None:
        return _ABSENT
    value = _digits(finding.effect)
    return value if finding.ci95 is None else f"{value} [{', '.join(map(_digits, finding.ci95))}]"


def _heading(scope: Scope) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in scope.versions)
    return "; ".join(filter(None, (str(scope), versions, "committed evidence" if scope.committed else "")))


def _table(members: Sequence[Verdict]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("claim", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("effect", overflow="fold")
    table.add_column("n", justify="right", no_wrap=True)
    for verdict in members:
        finding = verdict.finding
        told = effect(finding)
        unit = f" {verdict.claim.unit}" if finding.effect is not None else ""
        table.add_row(
            Text(verdict.claim.id),
            Text(finding.verdict, style=VERDICT_STYLES[finding.verdict]),
            Text(one_line(f"{told}{unit}")),
            Text(_ABSENT if finding.n is None else str(finding.n)),
        )
    return table


def _note(finding: Finding) -> str | None:
    """What a reader must know of a verdict that is neither supported nor refuted, in one line."""
    if finding.verdict == "conditional":
        return f"holds {finding.condition}" if finding.condition else finding.summary
    if finding.verdict == "inconclusive":
        return finding.summary
    if finding.verdict == "not tested":
        return f"needs {'; '.join(finding.missing)}" if finding.missing else finding.summary
    return None


def _digits(value: float) -> str:
    """Four significant digits; whole numbers in full, so that bytes stay bytes."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
