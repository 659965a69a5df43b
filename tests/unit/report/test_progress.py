"""Progress goes to stderr in the form that stderr can show, and never draws between events."""

from __future__ import annotations

import io
import re
import sys
import threading
from dataclasses import replace

import pytest

from lorabench.case import Case
from lorabench.report.progress import show_progress

CASE = Case(scenario="ranks", task="train", model="llama-tiny", axes=(("adapter.rank", 4),))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def tell(monkeypatch, make_record, failed_record):
    def tell(stream, **options):
        monkeypatch.setattr("sys.stderr", stream)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "100")
        with show_progress(**{"quiet": False, "results_on_terminal": False, **options}) as progress:
            progress.planned(2)
            progress.started(CASE, 0)
            progress.phase(CASE, "forward")
            progress.finished(make_record())
            threads = threading.active_count()
            progress.finished(failed_record)
        return stream.getvalue(), threads

    return tell


def test_a_plain_line_for_each_finished_case_where_there_is_no_terminal(tell):
    output, _ = tell(io.StringIO())
    assert output == "1/2 ranks[adapter.rank=4] ok 2.5 s\n2/2 ranks[adapter.rank=8] failed 2.5 s\n"


def test_a_bar_with_case_phase_and_time_left_on_a_terminal(tell):
    output, threads = tell(Terminal())
    assert "0/2" in output
    assert "1/2" in output
    assert "forward" in output
    assert "ranks[adapter.rank=4]" in output
    assert "--:--" in output
    assert "ranks[adapter.rank=8] failed" in output
    assert threads == threading.active_count(), "a drawing thread would disturb what is measured"


def test_a_long_name_gives_way_on_a_narrow_terminal(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    long = replace(CASE, axes=(("adapter.target_modules", "q" * 80),))
    with show_progress(quiet=False, results_on_terminal=False) as progress:
        progress.planned(100)
        progress.started(long, 0)
        progress.phase(long, "optimizer")
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue().rpartition("optimizer")[0]).rpartition("\r")[2]
    assert last.split()[0] == "0/100"


def test_plain_lines_where_a_bar_would_run_into_results(tell):
    output, _ = tell(Terminal(), results_on_terminal=True)
    assert output.count("\n") == 2
    assert "\x1b" not in output


def test_quiet_says_nothing(tell):
    assert tell(Terminal(), quiet=True)[0] == ""


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_a_warning_is_one_line_even_where_progress_is_silent(monkeypatch, quiet, stream):
    monkeypatch.setattr("sys.stderr", stream())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    text = "cuda:0: something else uses this GPU: what is measured is not what it would be alone"
    with show_progress(quiet=quiet, results_on_terminal=False) as progress:
        progress.warning(text)
    assert text in sys.stderr.getvalue()
