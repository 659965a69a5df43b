"""Ctrl-C while a report is made, as a terminal sends it: to the command and to the processes that draw."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import lorabench
from lorabench.report.page.drawing import drawing


@pytest.mark.parametrize("presses", [1, 2, 3])
@pytest.mark.parametrize("after_s", [0.0, 2.0], ids=["while processes start", "when they are ready"])
def test_ctrl_c_ends_a_report_at_once_and_all_its_processes(tmp_path, family, after_s, presses):
    # Reading it holds the command up where the processes that draw were started already.
    fifo = tmp_path / "r.jsonl"
    os.mkfifo(fifo)
    command = subprocess.Popen(
        [sys.executable, "-m", "lorabench", "report", fifo.name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(lorabench.__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A group of its own, which is interrupted as a whole.
        process_group=0,
    )
    with command, fifo.open("w"):
        time.sleep(after_s)
        assert len(family.pids()) > 1
        for _ in range(presses):
            os.killpg(command.pid, signal.SIGINT)
            # Too soon, and two are one.
            time.sleep(0.01)
        try:
            said = command.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(command.pid, signal.SIGKILL)
            raise
    assert (command.returncode, *said) == (130, "", "")
    assert family.left_after(5.0) == set()


@pytest.mark.parametrize("ended_by", [KeyboardInterrupt, OSError])
def test_drawing_that_an_exception_ends_leaves_no_thread_and_no_process(ended_by):
    before = signal.getsignal(signal.SIGINT)
    threads = set(threading.enumerate())
    try:
        with pytest.raises(ended_by):
            _draw_until(ended_by)
        # The interpreter's end would meet them half closed, and say so.
        assert set(threading.enumerate()) == threads
        assert not multiprocessing.active_children()
    finally:
        signal.signal(signal.SIGINT, before)


def _draw_until(exception):
    threads = threading.active_count()
    with drawing():
        assert threading.active_count() > threads
        assert multiprocessing.active_children()
        raise exception
