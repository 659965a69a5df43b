"""The gate's decision on the terminal: a row for each number that moved, the worst case first, causes below it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lorabench.analysis.gate.comparison import Number, Outcome
from lorabench.analysis.gate.decision import Decision
from lorabench.report.gate import wording
from lorabench.report.terminal import mib, print_line

_VERDICT_STYLES = {"passed": "bold green", "failed": "bold red", "not comparable": "bold yellow"}


def print_decision(console: Console, decision: Decision) -> None:
    """Cases that are equal are counted only; a line with the verdict ends it."""
    print_cases(console, decision)
    for notice in wording.notices(decision):
        print_line(console, Text(f"notice: {notice}", style="yellow"))
    print_line(console, Text(wording.verdict_line(decision), style=_VERDICT_STYLES[decision.verdict]))


def print_cases(console: Console, decision: Decision) -> None:
    """The cases that are not as they were."""
    for outcome in decision.outcomes:
        if outcome.kind != "equal" or outcome.times:
            _print_outcome(console, outcome, decision)


def print_obstacles(console: Console, decision: Decision) -> None:
    """Why nothing is comparable, a line each, and what would help."""
    *lines, last = (f"not comparable: {wording.plain(obstacle, wording.LONG)}" for obstacle in decision.obstacles)
    for line in (*lines, f"{last}; {decision.way_out}"):
        print_line(console, Text(line))


def _print_outcome(console: Console, outcome: Outcome, decision: Decision) -> None:
    style = "bold red" if decision.policy.fails_case(outcome) else "cyan"
    # Never a name first: a runner would obey one that starts with two colons.
    print_line(console, Text.assemble((f"{outcome.kind}: ", style), wording.named(outcome)))
    moved = wording.moved_numbers(outcome)
    if outcome.base is None or outcome.head is None or outcome.kind == "not ok":
        print_line(console, Text(f"  {wording.headline(outcome, decision)}"))
    elif moved:
        console.print(_table(moved))
    for cause in wording.causes(outcome):
        print_line(console, Text(f"  {cause}"))
    for time in wording.times(outcome):
        print_line(console, Text(f"  warning: {time}", style="yellow"))
    print_line(console)


def _table(numbers: list[Number]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("  metric", no_wrap=True)
    for title in ("baseline bytes", "bytes now", "difference", "MiB", "MiB now", "difference"):
        table.add_column(title, justify="right", no_wrap=True)
    for number in numbers:
        table.add_row(*map(Text, _cells(number)))
    return table


def _cells(number: Number) -> Iterator[str]:
    yield f"  {wording.metric_title(number)}"
    yield "-" if number.base is None else f"{number.base:,}"
    yield "-" if number.head is None else f"{number.head:,}"
    yield number.change if number.difference is None else f"{number.difference:+,}"
    yield mib(number.base)
    yield mib(number.head)
    yield "" if number.difference is None else wording.signed_mib(number.difference)
