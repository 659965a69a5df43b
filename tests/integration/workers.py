"""Workers for the fork server to run: each behaves as one thing that can go wrong. None needs torch.

A case says by its scenario which behaviour it wants: ``run_job`` looks it up by that name.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lorabench.case import Case
from lorabench.runner.job import Emit, Job

RESULT: dict[str, Any] = {
    "event": "result",
    "status": "ok",
    "error": None,
    "proof": {"trainable_parameters": 7},
    "memory": {"static_bytes": 1000},
    "latency": {},
    "observations": {"outputs": "equal"},
}


def run_job(job: Job, emit: Emit) -> None:
    for index, case in enumerate(job.cases):
        BEHAVIOURS[case.scenario](job, case, index, emit)


def work(job: Job, case: Case, index: int, emit: Emit) -> None:
    """Tells which process measured it, under the name of the job's mode, and times itself unless it measures memory."""
    emit({"event": "phase", "phase": "load", "case": index})
    emit.phase("forward", index)
    observations = {f"{job.mode}_pid": os.getpid(), "server_pid": os.getppid(), "ran_on": job.device}
    latency = {} if job.mode == "memory" else {"step": [0.25, 0.5, 0.75]}
    memory = None if job.mode == "timing" else RESULT["memory"]
    emit({**RESULT, "case": index, "memory": memory, "latency": latency, "observations": observations})


def meet(job: Job, case: Case, index: int, emit: Emit) -> None:
    """Leaves a sign and waits until as many others have as the case has steps."""
    signs = Path(os.environ["LORABENCH_TEST_SIGNS"])
    (signs / f"{os.getpid()}").touch()
    while len(list(signs.iterdir())) <= case.measure.steps:
        time.sleep(0.01)
    work(job, case, index, emit)


def be_alone(job: Job, case: Case, index: int, emit: Emit) -> None:
    """Fails if its server runs another at the same time."""
    sign = Path(os.environ["LORABENCH_TEST_SIGNS"]) / f"{os.getppid()}"
    sign.touch(exist_ok=False)
    time.sleep(0.02)
    sign.unlink()
    work(job, case, index, emit)


def time_steps(job: Job, case: Case, index: int, emit: Emit) -> None:
    """With the phase that a worker tells before its timed steps."""
    emit({"event": "phase", "phase": "timing", "case": index})
    work(job, case, index, emit)


def crash_when_timed(job: Job, case: Case, index: int, emit: Emit) -> None:
    if job.mode == "timing":
        emit.phase("decode", index)
        os.abort()
    work(job, case, index, emit)


def need_all_memory_when_timed(job: Job, case: Case, index: int, emit: Emit) -> None:
    if job.mode == "timing" and len(job.cases) > 1:
        emit.phase("load", index)
        raise MemoryError("no 12 GiB in one piece")
    work(job, case, index, emit)


def raise_memory_error_when_timed(job: Job, case: Case, index: int, emit: Emit) -> None:
    if job.mode == "timing":
        emit.phase("backward", index)
        raise MemoryError("no 12 GiB in one piece")
    work(job, case, index, emit)


def hang_when_timed(job: Job, case: Case, index: int, emit: Emit) -> None:
    if job.mode == "timing":
        time.sleep(3600)
    work(job, case, index, emit)


def invalid_alone(job: Job, case: Case, index: int, emit: Emit) -> None:
    """Refused in its own process, measured in the group's."""
    if job.mode == "timing":
        work(job, case, index, emit)
        return
    error = {"type": "InvalidCaseError", "message": "no quantized module", "phase": "load"}
    emit({**RESULT, "case": index, "status": "invalid", "error": error})


def nap(job: Job, case: Case, index: int, emit: Emit) -> None:
    emit({"event": "phase", "phase": "load", "case": index})
    time.sleep(0.02)
    emit({**RESULT, "case": index})


def raise_error(job: Job, case: Case, index: int, emit: Emit) -> None:
    emit.phase("forward", index)
    raise ValueError("rank must be positive")


def raise_memory_error(job: Job, case: Case, index: int, emit: Emit) -> None:
    emit.phase("backward", index)
    raise MemoryError("no 12 GiB in one piece")


def exit_with_three(job: Job, case: Case, index: int, emit: Emit) -> None:
    emit.phase("attach", index)
    sys.exit(3)


def forget_result(job: Job, case: Case, index: int, emit: Emit) -> None:
    emit.phase("merge", index)


def segfault(job: Job, case: Case, index: int, emit: Emit) -> None:
    emit.phase("backward", index)
    ctypes.string_at(0)


def kill_itself(job: Job, case: Case, index: int, emit: Emit) -> None:
    emit.phase("optimizer", index)
    os.kill(os.getpid(), signal.SIGKILL)


def hang_asleep(job: Job, case: Case, index: int, emit: Emit) -> None:
    emit.phase("decode", index)
    time.sleep(3600)


def hang_in_c(job: Job, case: Case, index: int, emit: Emit) -> None:
    """Holds the interpreter's lock, as a kernel that never returns does."""
    emit.phase("prefill", index)
    # PyDLL, unlike CDLL, keeps the lock during the call.
    ctypes.PyDLL(None).sleep(3600)


def hang_with_offspring(job: Job, case: Case, index: int, emit: Emit) -> None:
    sleeper = subprocess.Popen(["sleep", "3600"])
    emit({"event": "phase", "phase": f"pid {sleeper.pid}", "case": index})
    time.sleep(3600)


def print_garbage(job: Job, case: Case, index: int, emit: Emit) -> None:
    os.write(1, b'{"event": "result", "case": 0, "status": "ok"}\n\xff\xfe\n')
    sys.stderr.write("not the protocol\n")
    work(job, case, index, emit)


def say_last_words(job: Job, case: Case, index: int, emit: Emit) -> None:
    sys.stdout.write("loading /home/someone/models/llama/weights.safetensors failed\n")
    faulthandler.disable()
    os.kill(os.getpid(), signal.SIGABRT)


def answer_no_json(job: Job, case: Case, index: int, emit: Emit) -> None:
    emit({**RESULT, "case": index, "observations": {"loss": object()}})


def answer_nan(job: Job, case: Case, index: int, emit: Emit) -> None:
    emit({**RESULT, "case": index, "observations": {"loss": float("nan")}})


def answer_malformed(job: Job, case: Case, index: int, emit: Emit) -> None:
    emit({**RESULT, "case": index, "memory": {"static_bytes": "many"}})


def use_up_memory(job: Job, case: Case, index: int, emit: Emit) -> None:
    emit.phase("backward", index)
    held = []
    # An end, so that a limit that does not hold harms nobody.
    while len(held) < 512:
        held.append(bytearray(os.urandom(4096)) * 256)


def kill_server(job: Job, case: Case, index: int, emit: Emit) -> None:
    emit({"event": "phase", "phase": "load", "case": index})
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(3600)


def tell_start(job: Job, case: Case, index: int, emit: Emit) -> None:
    """What a fresh process looks like from inside."""
    seen = {
        "pid": os.getpid(),
        "leads_session": os.getsid(0) == os.getpid(),
        "stdin": os.read(0, 1).decode(),
        "threads": len(os.listdir("/proc/self/task")),
        "modules": sorted(name for name in sys.modules if "." not in name),
    }
    emit({**RESULT, "case": index, "observations": seen})


BEHAVIOURS: dict[str, Callable[[Job, Case, int, Emit], None]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        work,
        meet,
        be_alone,
        time_steps,
        crash_when_timed,
        hang_when_timed,
        need_all_memory_when_timed,
        raise_memory_error_when_timed,
        invalid_alone,
        nap,
        raise_error,
        raise_memory_error,
        exit_with_three,
        forget_result,
        segfault,
        kill_itself,
        hang_asleep,
        hang_in_c,
        hang_with_offspring,
        print_garbage,
        say_last_words,
        answer_no_json,
        answer_nan,
        answer_malformed,
        use_up_memory,
        kill_server,
        tell_start,
    )
}
