"""The table in which ``lorabench ab`` ends."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lorabench.analysis.paired.comparison import Comparison
from lorabench.report.paired import words
from lorabench.report.terminal import print_line

_STYLES = {"slower": "bold red", "faster": "green", "equivalent": "green", "inconclusive": "yellow"}


def print_comparison(console: Console, comparison: Comparison, strict: bool) -> None:
    """The worst first, then what there is to say about them, then the whole in one line."""
    answers = words.worst_first(comparison)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("case", overflow="fold", min_width=10)
    table.add_column("metric", no_wrap=True)
    for column in ("base", "head", "change", "interval", "pairs"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for answer in answers:
        judgement = answer.judgement
        table.add_row(
            Text(words.name(answer)),
            answer.metric,
            words.milliseconds(answer.base_s),
            words.milliseconds(answer.head_s),
            words.change(judgement),
            words.interval(judgement),
            str(judgement.pairs),
            Text(answer.verdict, style=_STYLES[answer.verdict]),
        )
    console.print(table)
    for answer in answers:
        for note in words.notes(answer):
            print_line(console, Text(f"  {words.name(answer)}, {answer.metric}: {note}", style="yellow"))
    print_line(console, Text(words.legend(comparison), style="dim"))
    style = "bold red" if comparison.fails(strict) else "bold"
    print_line(console, Text(words.verdict_line(comparison, strict), style=style))
