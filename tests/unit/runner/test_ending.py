from __future__ import annotations

import os
import signal

import pytest

from lorabench.runner.ending import classify, log_tail, one_line, timed_out


def wait_status(act):
    """The status of a real process that ended by ``act``."""
    pid = os.fork()
    if pid == 0:
        try:
            act()
        finally:
            os._exit(0)
    return os.waitpid(pid, 0)[1]


def kill_itself(number):
    # Signals that dump core by default leave none behind.
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("act", "oom_killed", "status", "type_", "message"),
    [
        (lambda: kill_itself(signal.SIGKILL), True, "oom", "OutOfMemoryKill", "host memory ran out"),
        (lambda: kill_itself(signal.SIGKILL), False, "failed", "SIGKILL", "killed by SIGKILL"),
        (lambda: kill_itself(signal.SIGTERM), True, "failed", "SIGTERM", "killed by SIGTERM"),
        (lambda: kill_itself(signal.SIGBUS), False, "failed", "SIGBUS", "killed by SIGBUS"),
        (
            lambda: kill_itself(signal.SIGRTMIN + 3),
            False,
            "failed",
            f"signal {signal.SIGRTMIN + 3}",
            "killed by signal",
        ),
        (lambda: os._exit(3), False, "failed", "ExitStatus", "exited with status 3"),
        (lambda: None, False, "failed", "NoResult", "ended without a result"),
    ],
)
def test_endings(act, oom_killed, status, type_, message):
    ending = classify(wait_status(act), oom_killed, b"")
    assert (ending.status, ending.type) == (status, type_)
    assert message in ending.message


def test_a_time_out_names_its_setting():
    assert timed_out(2.5).message == "stopped after 2.5 s (measure.timeout_s)"
    assert timed_out(18, 3).message == "stopped after 18 s (measure.timeout_s of the group's 3 cases together)"


def test_a_crash_quotes_what_was_printed_last():
    ending = classify(3 << 8, False, b"one\ntwo /opt/models/llama/config.json missing\n")
    assert ending.message == "exited with status 3; it printed last: one; two .../llama/config.json missing"


def test_a_fatal_error_is_quoted_from_its_start():
    dump = [
        "Fatal Python error: Segmentation fault",
        "",
        "Thread 1:",
        *[f'  File "/x/y/z.py", line {n}' for n in range(99)],
    ]
    lines = log_tail("\n".join(["chatter"] * 500 + dump + ["Extension modules: " + "numpy, " * 5000]).encode())
    assert lines[0] == dump[0]
    assert len(lines) < 20
    assert not any("Extension" in text for text in lines)


def test_chatter_is_cut():
    assert sum(map(len, log_tail(b"word " * 100_000))) <= 1500


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\r\n\n  c  ", "a; b; c"),
        ("\x1b[31mred\x07", " [31mred "),
        ('File "/home/someone/venv/lib/torch/nn/linear.py", line 3', 'File ".../nn/linear.py", line 3'),
        ("see https://example.org/a/b/c", "see https://example.org/a/b/c"),
        ("read /etc/passwd", "read /etc/passwd"),
        ("shape 3/4/5 or a/b/c/d", "shape 3/4/5 or a/b/c/d"),
    ],
)
def test_one_line(text, shown):
    assert one_line(text) == shown


def test_what_is_not_text_is_shown_as_such():
    assert one_line("\n".join(log_tail(b"\xff\xfe ok"))) == "\ufffd\ufffd ok"
