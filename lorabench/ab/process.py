"""The parent's side of one sample's process: start it, let it import, give it its job, and tell what became of it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

from lorabench.environment import Target
from lorabench.errors import InputError
from lorabench.runner.connection import START_TIMEOUT_S, bootstrap
from lorabench.runner.ending import TAIL_BYTES, classify, log_tail, one_line, timed_out
from lorabench.runner.job import Job
from lorabench.runner.lastphase import LastPhase
from lorabench.runner.lines import LineReader, encode, write_all
from lorabench.runner.oomkills import count_oom_kills
from lorabench.runner.outcome import Outcome, outcomes
from lorabench.runner.scratch import scratch_folder
from lorabench.runner.watch import NoWatch

DEFAULT_WORKER = "lorabench.runner.worker:run_job"
# The pipe closes a moment before the process is gone.
_EXIT_GRACE_S = 1.0


class SampleProcess:
    """A process under ``python`` that is good for one job. It imports as soon as it is made; nothing waits for it."""

    def __init__(
        self,
        python: str,
        target: Target,
        *,
        worker: str = DEFAULT_WORKER,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """``environment`` is added to this process's variables; ``worker`` is another than the usual for evidence.

        Raises:
            InputError: ``python`` cannot be started.
        """
        self._python = python
        self._held = ExitStack()
        self._started = time.monotonic()
        request_fd, self._request_fd = os.pipe()
        self._response_fd, response_fd = os.pipe()
        self._last_phase = LastPhase.create()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        self._held.callback(self._log.close)
        folder = self._held.enter_context(scratch_folder())
        visible = {}
        if target.nvml_index is not None:
            visible = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": str(target.nvml_index)}
        inherited = {
            "--requests": request_fd,
            "--responses": response_fd,
            "--last-phase": self._last_phase.fd,
        }
        options = [part for option, fd in inherited.items() for part in (option, str(fd))]
        program = bootstrap("lorabench.runner.sample")
        try:
            self._process = subprocess.Popen(
                [python, "-P", "-c", program, "--parent", str(os.getpid()), "--worker", worker, *options],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env={**os.environ, **visible, "TMPDIR": str(folder), **(environment or {})},
                pass_fds=tuple(inherited.values()),
                # Ctrl-C at the terminal is for the parent to handle.
                start_new_session=True,
            )
        except OSError as error:
            os.close(self._request_fd)
            os.close(self._response_fd)
            os.close(self._last_phase.fd)
            self._held.close()
            raise InputError(f"{python}: {error.strerror}: give a Python interpreter that has torch and peft") from None
        finally:
            os.close(request_fd)
            os.close(response_fd)
        self._reader = LineReader(self._response_fd)
        self._unread: deque[bytes] = deque()
        self.closed = False

    def greet(self) -> Mapping[str, Any]:
        """Sleeps until the process has imported everything; what it says of itself (:mod:`lorabench.runner.sample`).

        Raises:
            InputError: the interpreter cannot run cases; the process is ended.
        """
        for hello in self._messages(self._started + START_TIMEOUT_S):
            return hello
        in_time = self._wait(_EXIT_GRACE_S)
        tail = log_tail(self._printed())
        self.close()
        what = one_line(tail[-1]) if tail else "it ended without a word"
        raise InputError(
            f"{self._python}: cannot run cases: {what if in_time else f'no answer after {START_TIMEOUT_S:g} s'}"
        )

    def run(self, job: Job, watch: NoWatch) -> Outcome:
        """The outcome of the job's one case; the process is ended after it. ``greet`` must have been called."""
        started = time.monotonic()
        oom_kills = count_oom_kills()
        events: list[Mapping[str, Any]] = []
        with contextlib.suppress(BrokenPipeError):
            write_all(self._request_fd, encode(job.to_dict()))
        for event in self._messages(started + job.timeout_s):
            events.append(event)
            watch.heard(event)
        in_time = self._wait(max(0.0, started + job.timeout_s - time.monotonic()) + _EXIT_GRACE_S)
        ending = timed_out(job.timeout_s)
        if in_time:
            killed = count_oom_kills() != oom_kills
            ending = classify(_wait_status(self._process.returncode), killed, self._printed())
        phase, case = self._last_phase.get()
        error = {"type": ending.type, "message": ending.message, "phase": phase}
        events.append({"event": "end", "status": ending.status, "error": error, "case": case})
        self.close()
        [outcome] = outcomes(job, events, time.monotonic() - started)
        return outcome

    def close(self) -> None:
        """Ends the process and all that it started. Safe to call twice."""
        if self.closed:
            return
        self.closed = True
        if self._process.returncode is None:
            self._wait(0.0)
        for fd in (self._request_fd, self._response_fd, self._last_phase.fd):
            os.close(fd)
        self._held.close()

    def _wait(self, seconds: float) -> bool:
        """Until the process has ended, but not longer: then it is killed. False if it had to be."""
        pid = self._process.pid
        with _pidfd(pid) as pidfd:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            in_time = bool(poll.poll(seconds * 1000))
        # What it started in its group may live on. The zombie still owns the group's number.
        for kill in (os.kill, os.killpg):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(pid, signal.SIGKILL)
        self._process.wait()
        return in_time

    def _messages(self, deadline: float) -> Iterator[Mapping[str, Any]]:
        """What the process says until it ends, or until ``deadline``; what one caller leaves is the next one's."""
        poll = select.poll()
        poll.register(self._response_fd, select.POLLIN)
        while True:
            while self._unread:
                yield json.loads(self._unread.popleft())
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                return
            lines = self._reader.read()
            if lines is None:
                return
            self._unread.extend(lines)

    def _printed(self) -> bytes:
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - TAIL_BYTES))
        return self._log.read()


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    fd = os.pidfd_open(pid)
    try:
        yield fd
    finally:
        os.close(fd)


def _wait_status(returncode: int) -> int:
    """What ``os.waitpid`` gave for a process of which :mod:`subprocess` says ``returncode``."""
    return -returncode if returncode < 0 else returncode << 8
