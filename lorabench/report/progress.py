"""How far a run is: a bar on a terminal, a plain line for each finished case elsewhere, or nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Column
from rich.text import Text

from lorabench.case import Case
from lorabench.record import Record
from lorabench.report.terminal import STATUS_STYLES, open_console, print_line

# Cases differ in length, so time left is judged by all that are finished, not by the last few.
_WHOLE_RUN_S = 1e9
_WARNING_STYLE = "yellow"


class Progress(Protocol):
    """What a run tells while it goes on."""

    def planned(self, cases: int) -> None:
        """So many records will come."""

    def started(self, case: Case, repeat: int) -> None: ...

    def phase(self, case: Case, name: str) -> None: ...

    def finished(self, record: Record) -> None: ...

    def warning(self, text: str) -> None:
        """In one line, something about the machine that makes results worse than they look."""


@contextmanager
def show_progress(*, quiet: bool, results_on_terminal: bool) -> Iterator[Progress]:
    """The way to show progress on stderr; ``results_on_terminal`` says that a bar would run into lines on stdout."""
    console = open_console(sys.stderr)
    if quiet:
        yield _Silent(console)
    elif console.is_terminal and not console.is_dumb_terminal and not results_on_terminal:
        with _bar(console) as bar:
            yield bar
    else:
        yield _Lines(console)


class _Silent:
    """No progress; warnings are none."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def planned(self, cases: int) -> None: ...

    def started(self, case: Case, repeat: int) -> None: ...

    def phase(self, case: Case, name: str) -> None: ...

    def finished(self, record: Record) -> None: ...

    def warning(self, text: str) -> None:
        print_line(self._console, Text(text, style=_WARNING_STYLE))


class _Lines(_Silent):
    """One plain line for each finished case."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._finished = 0
        self._planned = 0

    def planned(self, cases: int) -> None:
        self._planned = cases

    def finished(self, record: Record) -> None:
        self._finished += 1
        print_line(
            self._console,
            f"{self._finished}/{self._planned} {record.name} {record.status} {record.wall_s:.1f} s",
        )


class _Bar:
    """Case, phase and time left. Redrawn on events alone: a drawing thread would disturb what is measured."""

    def __init__(self, progress: RichProgress) -> None:
        self._progress = progress
        self._task: TaskID = progress.add_task("", total=None, phase="starting")

    def planned(self, cases: int) -> None:
        self._show(total=cases)

    def started(self, case: Case, repeat: int) -> None:
        self._show(description=case.name, phase="starting")

    def phase(self, case: Case, name: str) -> None:
        self._show(description=case.name, phase=name)

    def finished(self, record: Record) -> None:
        if record.status != "ok":
            style = STATUS_STYLES[record.status]
            self._progress.console.print(f"{record.name} {record.status}", style=style, soft_wrap=True)
        self._show(advance=1)

    def warning(self, text: str) -> None:
        self._progress.console.print(text, style=_WARNING_STYLE, soft_wrap=True)

    def _show(self, **changes: Any) -> None:
        self._progress.update(self._task, refresh=True, **changes)


@contextmanager
def _bar(console: Console) -> Iterator[_Bar]:
    columns = (
        MofNCompleteColumn(),
        BarColumn(bar_width=16),
        TextColumn("{task.fields[phase]}", style="cyan", markup=False, table_column=Column(width=9, no_wrap=True)),
        TimeRemainingColumn(compact=True),
        # The case's name gives way where the terminal is narrow.
        TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
    )
    progress = RichProgress(
        *columns,
        console=console,
        auto_refresh=False,
        transient=True,
        expand=True,
        redirect_stdout=False,
        redirect_stderr=False,
        speed_estimate_period=_WHOLE_RUN_S,
    )
    with progress:
        yield _Bar(progress)
