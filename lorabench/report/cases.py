"""What scenarios expand to, for reading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from rich.console import Console
from rich.text import Text

from lorabench.case import Case, format_value
from lorabench.report.terminal import print_line
from lorabench.wording import counted, one_line


def print_cases(console: Console, cases: Sequence[Case], questions: Mapping[str, str]) -> None:
    """Each scenario with its question, and a line a case: its key and the settings that tell it from the others."""
    for name, group in groupby(cases, key=lambda case: case.scenario):
        members = list(group)
        facts = [members[0].task, *dict.fromkeys(case.model for case in members)]
        print_line(console, Text(one_line(f"{name} ({', '.join(facts)})"), style="bold"))
        print_line(console, one_line(questions[name]))
        for case in members:
            settings = ", ".join(f"{axis}={format_value(value)}" for axis, value in case.axes)
            print_line(console, Text.assemble("  ", (case.key, "cyan"), f"  {one_line(settings or case.name)}"))
        print_line(console)
    scenarios = {case.scenario for case in cases}
    print_line(console, f"{counted(len(cases), 'case')} in {counted(len(scenarios), 'scenario')}")
