"""The life of a worker process, from the fork (or exec) to its exit. Standard library only."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorabench.errors import LorabenchError
from lorabench.memory_errors import is_out_of_memory
from lorabench.runner.ending import one_line
from lorabench.runner.job import Job, Worker
from lorabench.runner.lastphase import LastPhase
from lorabench.runner.lines import encode, write_all

_PR_SET_PDEATHSIG = 1
_MESSAGE_CHARACTERS = 2000


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent dies; exit at once if that has happened already.

    See prctl(2), PR_SET_PDEATHSIG: it survives exec and is not inherited over fork.
    """
    _set_death_signal(signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)


def outlive_parent_thread() -> None:
    """Undo :func:`die_with_parent`, whose parent is a thread, once something else tells of the parent's death."""
    _set_death_signal(0)


def _set_death_signal(number: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")


def settle_in(server_pid: int, log_fd: int) -> None:
    """Makes a forked process one that can be killed with all that it starts, and whose words are kept in its log."""
    die_with_parent(server_pid)
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log_fd, 1)
    os.dup2(log_fd, 2)
    be_first_to_go()


def be_first_to_go() -> None:
    """If memory runs out, let the kernel take the worker, not the process that has the results file."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


class PipeEmit:
    """:class:`~lorabench.runner.job.Emit` over a pipe and the shared slot."""

    def __init__(self, fd: int, last_phase: LastPhase) -> None:
        self._fd = fd
        self.phase = last_phase.set

    def __call__(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "phase":
            self.phase(event["phase"], event["case"])
        write_all(self._fd, encode(event))


def work(worker: Worker, job: Job, event_fd: int, last_phase: LastPhase) -> int:
    """Runs the job in this process and returns its exit status. Whatever the worker raises is told as an event."""
    faulthandler.enable()
    for stream in (sys.stdout, sys.stderr):
        # A process that is killed flushes nothing.
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    emit = PipeEmit(event_fd, last_phase)
    try:
        worker(job, emit)
    except SystemExit as exit_request:
        return exit_request.code if isinstance(exit_request.code, int) else 1
    except BaseException as error:
        report = {
            "event": "raised",
            "status": "oom" if is_out_of_memory(error) else "failed",
            "type": type(error).__name__,
        }
        message = one_line(str(error))[:_MESSAGE_CHARACTERS]
        if not isinstance(error, LorabenchError):
            message = f"{message} ({_place_of(error)})"
        traceback.print_exc()
        # What the job held may be all the memory there is.
        error.__traceback__ = None
        del error
        gc.collect()
        emit({**report, "message": message})
        return 1
    return 0


def _place_of(error: BaseException) -> str:
    """The innermost line of code, by file name."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"
