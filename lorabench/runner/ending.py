"""What the end of a worker process says about the cases that it left without a result. Standard library only."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass
from typing import Literal

TAIL_BYTES = 1 << 16
_TAIL_CHARACTERS = 1500
# What faulthandler prints when a signal kills the process: its first lines name the frame, its last ones only list
# extension modules.
_FATAL = "Fatal Python error:"
_FATAL_LINES = 12

# A results file may be published; the layout of the machine that wrote it is nobody's business.
_ABSOLUTE_PATH = re.compile(r"(?<![\w:/.~-])/(?:[^\s/\"':]+/)+(?=[^\s/\"':]+/[^\s/\"':]+)")


@dataclass(frozen=True)
class Ending:
    """The status and error of each case without a result."""

    status: Literal["oom", "failed", "timeout"]
    type: str
    message: str


def timed_out(timeout_s: float, cases: int = 1) -> Ending:
    """``timeout_s`` is that of a process, in which as many ``cases`` had each its own."""
    shared = f" of the group's {cases} cases together" if cases > 1 else ""
    return Ending("timeout", "Timeout", f"stopped after {timeout_s:g} s (measure.timeout_s{shared})")


def classify(wait_status: int, oom_killed: bool, log: bytes) -> Ending:
    """``wait_status`` as of ``os.waitpid``; ``oom_killed`` if the kernel's counter rose during the process's life.

    ``log`` is the end of what the process printed.
    """
    code = os.waitstatus_to_exitcode(wait_status)
    if code == -signal.SIGKILL and oom_killed:
        return Ending("oom", "OutOfMemoryKill", "killed by the kernel: host memory ran out")
    if code < 0:
        name = _signal_name(-code)
        return Ending("failed", name, _with_tail(f"killed by {name}", log))
    if code > 0:
        return Ending("failed", "ExitStatus", _with_tail(f"exited with status {code}", log))
    return Ending("failed", "NoResult", "the worker ended without a result")


def one_line(text: str) -> str:
    """``text`` in one line of printable characters; of absolute paths only the end is kept."""
    joined = "; ".join(line.strip() for line in text.splitlines() if line.strip())
    printable = "".join(character if character.isprintable() else " " for character in joined)
    return _ABSOLUTE_PATH.sub(".../", printable)


def log_tail(log: bytes) -> list[str]:
    """The lines that a process printed last, or those that say where it crashed."""
    text = log.decode(errors="replace").strip()
    _, fatal, after = text.rpartition(_FATAL)
    if fatal:
        return (fatal + after).splitlines()[:_FATAL_LINES]
    return text[-_TAIL_CHARACTERS:].splitlines()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _with_tail(message: str, log: bytes) -> str:
    tail = one_line("\n".join(log_tail(log)))
    return f"{message}; it printed last: {tail}" if tail else message
