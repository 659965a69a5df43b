"""The fork server: imports once, then runs each job in a fresh child.

Started as ``PYTHON -m lorabench.runner.server``, with the protocol of :mod:`lorabench.runner.job` on two inherited
pipes. It says ``hello`` when its imports are done, takes one job a line, passes the worker's events on and ends each
job with an ``end`` event. It sleeps in ``poll`` while it waits. When its parent is gone it kills its child and exits.
Where forking would spoil CUDA for the child, each child is a fresh interpreter instead; the protocol is the same.
Standard library, the torch stack and NVML only: it runs under foreign interpreters.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from lorabench.interpreter import interpreter_facts
from lorabench.runner import child
from lorabench.runner.ending import TAIL_BYTES, Ending, classify, timed_out
from lorabench.runner.job import Worker, job_from_dict
from lorabench.runner.lastphase import LastPhase
from lorabench.runner.lines import LineReader, encode, write_all
from lorabench.runner.oomkills import count_oom_kills
from lorabench.runner.preload import (
    DEFAULT_MODULES,
    capability_from_nvml,
    preload,
    prepare_environment,
    why_not_fork,
)
from lorabench.runner.scratch import scratch_folder, sweep, use_for_temporary_files
from lorabench.shared_folder import share

DEFAULT_WORKER = "lorabench.runner.worker:run_job"


class ParentGoneError(Exception):
    """Nobody reads the answers any more."""


class Server:
    """Runs jobs in children, one at a time."""

    def __init__(self, request_fd: int, response_fd: int, worker_name: str, worker: Worker, spawn: bool) -> None:
        self._request_fd, self._response_fd = request_fd, response_fd
        self._worker_name, self._worker, self._spawn = worker_name, worker, spawn
        self._last_phase = LastPhase.create()
        self._wakeup_fd, wakeup_write_fd = os.pipe()
        os.set_blocking(self._wakeup_fd, False)
        os.set_blocking(wakeup_write_fd, False)
        signal.set_wakeup_fd(wakeup_write_fd, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> None:
        """Until the parent closes its end of the request pipe."""
        requests = LineReader(self._request_fd)
        while (lines := requests.read()) is not None:
            for line in lines:
                self._run(line)

    def _run(self, job: bytes) -> None:
        asked = json.loads(job)
        timeout_s: float = asked["timeout_s"]
        oom_kills = count_oom_kills()
        self._last_phase.clear()
        event_fd, child_event_fd = os.pipe()
        with tempfile.TemporaryFile() as log, scratch_folder() as folder:
            pid = self._fork(job, child_event_fd, log.fileno(), folder)
            os.close(child_event_fd)
            try:
                in_time, wait_status = self._follow(pid, event_fd, time.monotonic() + timeout_s)
            finally:
                os.close(event_fd)
            log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL_BYTES))
            printed = log.read()
        if in_time:
            self._tell(classify(wait_status, count_oom_kills() != oom_kills, printed))
        else:
            self._tell(timed_out(timeout_s, len(asked["cases"])))

    def _tell(self, ending: Ending) -> None:
        phase, case = self._last_phase.get()
        error = {"type": ending.type, "message": ending.message, "phase": phase}
        self._answer(encode({"event": "end", "status": ending.status, "error": error, "case": case}))

    def _answer(self, data: bytes) -> None:
        try:
            write_all(self._response_fd, data)
        except BrokenPipeError:
            raise ParentGoneError from None

    def _fork(self, job: bytes, event_fd: int, log_fd: int, folder: Path) -> int:
        server_pid = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            return pid
        exit_status = 1
        try:
            child.settle_in(server_pid, log_fd)
            use_for_temporary_files(folder)
            os.close(self._request_fd)
            os.close(self._response_fd)
            if self._spawn:
                self._exec(job, event_fd)
            exit_status = child.work(self._worker, job_from_dict(json.loads(job)), event_fd, self._last_phase)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            # No clean-up of a torch process: its memory goes back to the kernel faster this way.
            os._exit(exit_status)

    def _exec(self, job: bytes, event_fd: int) -> None:
        job_fd = os.memfd_create("lorabench-job")
        write_all(job_fd, job)
        inherited = {"--job": job_fd, "--events": event_fd, "--last-phase": self._last_phase.fd}
        for fd in inherited.values():
            os.set_inheritable(fd, True)
        options = [part for option, fd in inherited.items() for part in (option, str(fd))]
        os.execv(sys.executable, [*_command_line(), "--worker", self._worker_name, *options])

    def _follow(self, pid: int, event_fd: int, deadline: float) -> tuple[bool, int]:
        """Passes events on until the child has ended. Returns whether it ended in time, and its wait status."""
        os.set_blocking(event_fd, False)
        events = LineReader(event_fd)
        poll = select.poll()
        poll.register(event_fd, select.POLLIN)
        poll.register(self._wakeup_fd, select.POLLIN)
        poll.register(self._request_fd, 0)
        in_time = True
        try:
            while not _has_ended(pid):
                left_ms = max(0.0, deadline - time.monotonic()) * 1000 if in_time else None
                ready = dict(poll.poll(left_ms))
                if not ready and left_ms is not None and time.monotonic() >= deadline:
                    in_time = False
                    _kill(pid)
                if self._request_fd in ready:
                    raise ParentGoneError
                if event_fd in ready and not self._pass_on(events):
                    poll.unregister(event_fd)
                if self._wakeup_fd in ready:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._wakeup_fd, 4096)
        finally:
            # The zombie still owns its process group's number, so that this cannot hit a stranger.
            _kill(pid)
            _, wait_status = os.waitpid(pid, 0)
        while self._pass_on(events):
            pass
        return in_time, wait_status

    def _pass_on(self, events: LineReader) -> bool:
        """Passes on what one read brings; False when nothing more can come."""
        try:
            lines = events.read()
        except BlockingIOError:
            return False
        if lines:
            self._answer(b"\n".join(lines) + b"\n")
        return lines is not None


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill(pid: int) -> None:
    """The process and all that it started in its group."""
    for kill in (os.kill, os.killpg):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _command_line() -> list[str]:
    """This process's own command without its arguments."""
    return sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1]


def _resolve(name: str) -> Worker:
    module, _, attribute = name.partition(":")
    return cast(Worker, getattr(importlib.import_module(module), attribute))


def _arguments(arguments: Sequence[str] | None) -> Any:
    parser = argparse.ArgumentParser(prog="lorabench.runner.server", description="The fork server of lorabench.")
    parser.add_argument("--worker", default=DEFAULT_WORKER, help="MODULE:CALLABLE that runs a job")
    parser.add_argument("--preload", default=",".join(DEFAULT_MODULES), help="modules to import before the first fork")
    parser.add_argument("--spawn", action="store_true", help="give each job a fresh interpreter, without forking")
    parser.add_argument("--parent", type=int, help="process id of the parent, on whose death the server ends")
    parser.add_argument("--requests", type=int, help="file descriptor to read jobs from")
    parser.add_argument("--responses", type=int, help="file descriptor to write events to")
    parser.add_argument("--job", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--events", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--last-phase", type=int, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = _arguments(arguments)
    prepare_environment()
    if options.job is not None:
        _run_spawned(options)
    child.die_with_parent(options.parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sweep()
    modules = [module for module in options.preload.split(",") if module]
    with capability_from_nvml() if "torch" in modules else contextlib.nullcontext():
        missing = preload(modules)
        worker = _resolve(options.worker)
    reason = "asked for" if options.spawn else why_not_fork()
    gc.collect()
    # What is frozen is never visited, and so never copied, by a child's garbage collection.
    gc.freeze()
    server = Server(options.requests, options.responses, options.worker, worker, spawn=reason is not None)
    hello = {
        "event": "hello",
        "start": "fork" if reason is None else "spawn",
        "reason": reason,
        "not_preloaded": missing,
        "interpreter": interpreter_facts(),
    }
    write_all(options.responses, encode(hello))
    # From here on a closed pipe tells of the parent's death, and the thread that started the server may end.
    child.outlive_parent_thread()
    with contextlib.suppress(ParentGoneError), scratch_folder() as folder:
        share(folder)
        server.serve()


def _run_spawned(options: Any) -> None:
    with open(options.job, "rb") as file:
        file.seek(0)
        job = job_from_dict(json.load(file))
    exit_status = 1
    try:
        exit_status = child.work(_resolve(options.worker), job, options.events, LastPhase(options.last_phase))
    finally:
        os._exit(exit_status)


if __name__ == "__main__":
    main()
