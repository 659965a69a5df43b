"""The parent's side of a fork server: start it, give it jobs, outlive its death.

What has to wait for the server yields a :class:`~lorabench.runner.waiting.Wait`, so that one parent can follow several.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import lorabench
from lorabench.errors import InputError
from lorabench.runner.ending import TAIL_BYTES, log_tail, one_line
from lorabench.runner.job import Job
from lorabench.runner.lines import LineReader, encode, write_all
from lorabench.runner.waiting import Wait

START_TIMEOUT_S = 600.0
"""Importing torch from a cold network disk takes minutes at worst."""
ANSWER_GRACE_S = 60.0
"""The server stops a job at its time-out; if it has not answered so long after, it hangs itself."""
_EXIT_TIMEOUT_S = 5.0

# Makes this very package importable, and nothing else beside it: with PYTHONPATH, the libraries that are installed
# next to it would hide those of a foreign interpreter. -P keeps the working folder out of the way.
_BOOTSTRAP = """
import importlib.util, runpy, sys
spec = importlib.util.spec_from_file_location("lorabench", {init!r}, submodule_search_locations=[{folder!r}])
package = sys.modules["lorabench"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""


class ServerDiedError(Exception):
    """The server ended or hangs; what it was doing is lost, and a new one must be started."""


class ServerConnection:
    """A fork server. ``hello`` is what it said of itself (see :mod:`lorabench.runner.server`), empty until it has."""

    def __init__(self, python: str, options: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> None:
        """Starts the server, with ``environment`` beside the variables of this process; does not wait for it.

        Raises:
            InputError: ``python`` cannot be started.
        """
        self._python = python
        self.hello: Mapping[str, Any] = {}
        request_fd, self._request_fd = os.pipe()
        self._response_fd, response_fd = os.pipe()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the server
        pipes = ["--parent", str(os.getpid()), "--requests", str(request_fd), "--responses", str(response_fd)]
        try:
            self._process = subprocess.Popen(
                [python, "-P", "-c", bootstrap("lorabench.runner.server"), *pipes, *options],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env={**os.environ, **(environment or {})},
                pass_fds=(request_fd, response_fd),
                # Ctrl-C at the terminal is for the parent to handle.
                start_new_session=True,
            )
        except OSError as error:
            self._release()
            raise InputError(f"{python}: {error.strerror}: give a Python interpreter that has torch and peft") from None
        finally:
            os.close(request_fd)
            os.close(response_fd)
        self._lines = self._read_lines()
        self._deadline = time.monotonic() + START_TIMEOUT_S

    def greet(self) -> Iterator[Wait]:
        """Until the server has imported everything and said hello.

        Raises:
            InputError: the interpreter cannot run cases; this connection is closed.
        """
        try:
            while not self.hello:
                step = next(self._lines)
                if isinstance(step, Wait):
                    yield step
                else:
                    self.hello = step
        except ServerDiedError as death:
            raise InputError(f"{self._python}: cannot run cases: {death}") from None

    @property
    def pid(self) -> int:
        return self._process.pid

    def run(self, job: Job) -> Iterator[Wait | Mapping[str, Any]]:
        """The events of one job, the last of them ``end``. The server must have said hello.

        Raises:
            ServerDiedError: after which this connection is closed.
        """
        self._deadline = time.monotonic() + job.timeout_s + ANSWER_GRACE_S
        try:
            write_all(self._request_fd, encode(job.to_dict()))
        except BrokenPipeError:
            self._die("ended")
        for step in self._lines:
            yield step
            if not isinstance(step, Wait) and step["event"] == "end":
                return

    def _read_lines(self) -> Iterator[Wait | Mapping[str, Any]]:
        reader = LineReader(self._response_fd)
        poll = select.poll()
        poll.register(self._response_fd, select.POLLIN)
        while True:
            while not poll.poll(0):
                if time.monotonic() >= self._deadline:
                    self._die("does not answer")
                yield Wait(self._deadline, self._response_fd)
            lines = reader.read()
            if lines is None:
                self._die("ended")
            for line in lines:
                yield json.loads(line)

    def _die(self, what: str) -> NoReturn:
        self._process.kill()
        status = self._process.wait()
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - TAIL_BYTES))
        tail = log_tail(self._log.read())
        self._release()
        how = f"signal {-status}" if status < 0 else f"status {status}"
        last_words = f": {one_line(tail[-1])}" if tail else ""
        raise ServerDiedError(f"the fork server {what} ({how}){last_words}")

    def close(self) -> None:
        """Ends the server and, with it, the job that it runs. Safe to call twice, and again after an interrupt.

        Whatever interrupts the wait for its end, a second Ctrl-C say, kills it.
        """
        if self._log.closed:
            return
        self._hang_up()
        if not self.hello:
            # While it imports it has no child, and would not notice the closed pipe.
            self._process.kill()
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_EXIT_TIMEOUT_S)
        finally:
            # Harmless once it has ended: the process is waited for, and the signal not sent.
            self._process.kill()
            self._process.wait()
            self._release()

    def _hang_up(self) -> None:
        # Forgotten before it is closed: who is interrupted in between must not close it again.
        fd, self._request_fd = self._request_fd, -1
        if fd >= 0:
            os.close(fd)

    def _release(self) -> None:
        self._hang_up()
        fd, self._response_fd = self._response_fd, -1
        if fd >= 0:
            os.close(fd)
        self._log.close()


def bootstrap(module: str) -> str:
    """The program that runs ``module`` of this very package under any interpreter, as ``python -P -c PROGRAM``."""
    init = Path(lorabench.__file__).resolve()
    return _BOOTSTRAP.format(init=str(init), folder=str(init.parent), module=module)
