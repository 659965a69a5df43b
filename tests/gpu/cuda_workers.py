"""Workers for the fork server that use CUDA."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from lorabench.case import Case
from lorabench.runner.job import Emit, Job


def run_job(job: Job, emit: Emit) -> None:
    behaviours = {
        "look-around": look_around,
        "spoil-cuda": spoil_cuda,
        "use-up-memory": use_up_memory,
        "hold-memory": hold_memory,
        "multiply": multiply,
        "leave-behind": leave_behind,
    }
    for index, case in enumerate(job.cases):
        behaviours[case.scenario](case, index, emit)


def _tell(index: int, emit: Emit, **observations: object) -> None:
    emit({"event": "result", "case": index, "status": "ok", "error": None, "observations": observations})


def look_around(case: Case, index: int, emit: Emit) -> None:
    """Whether CUDA is fresh, and whether bitsandbytes multiplies on it with its own kernels."""
    import bitsandbytes
    import torch

    from lorabench.runner.preload import has_cuda_kernels

    fresh = not torch.cuda.is_initialized()
    left = torch.randint(-127, 128, (64, 128), dtype=torch.int8, device="cuda")
    right = torch.randint(-127, 128, (32, 128), dtype=torch.int8, device="cuda")
    product = torch.ops.bitsandbytes.int8_linear_matmul(left, right)
    expected = (left.cpu().long() @ right.cpu().long().T).to(product.dtype)
    with torch.profiler.profile() as profile:
        torch.ops.bitsandbytes.int8_linear_matmul(left, right)
        torch.cuda.synchronize()
    _tell(
        index,
        emit,
        fresh=fresh,
        capability=list(torch.cuda.get_device_capability()),
        kernels_registered=has_cuda_kernels(),
        library=type(bitsandbytes.cextension.lib).__name__,
        equal=bool(torch.equal(product.cpu(), expected)),
        operators=sorted({event.key for event in profile.key_averages()}),
    )


def spoil_cuda(case: Case, index: int, emit: Emit) -> None:
    """A device-side assertion: every later CUDA call of the process fails."""
    import torch

    emit.phase("forward", index)
    torch.zeros(4, device="cuda")[torch.tensor([9], device="cuda")]
    torch.cuda.synchronize()


def use_up_memory(case: Case, index: int, emit: Emit) -> None:
    import torch

    emit.phase("backward", index)
    total_bytes = torch.cuda.get_device_properties(0).total_memory
    torch.empty(2 * total_bytes, dtype=torch.uint8, device="cuda")


def hold_memory(case: Case, index: int, emit: Emit) -> None:
    """Dies by a signal with 4 GiB in its hands."""
    import torch

    held = torch.ones(1 << 30, device="cuda")
    torch.cuda.synchronize()
    emit.phase("forward", index)
    os.kill(os.getpid(), signal.SIGKILL)
    del held


def multiply(case: Case, index: int, emit: Emit) -> None:
    """Keeps the GPU busy for about a second, as a timed pass."""
    import torch

    left = torch.randn(8192, 8192, dtype=torch.bfloat16, device="cuda")
    emit({"event": "phase", "phase": "timing", "case": index})
    samples = []
    while sum(samples) < 1:
        started = time.perf_counter()
        for _ in range(20):
            left @ left
        torch.cuda.synchronize()
        samples.append(time.perf_counter() - started)
    result = {"event": "result", "case": index, "status": "ok", "error": None, "observations": {}}
    emit({**result, "latency": {"step": samples}})


def leave_behind(case: Case, index: int, emit: Emit) -> None:
    """Starts a process on the GPU that outlives it, and tells its id."""
    _tell(index, emit, left_pid=hold_gpu().pid)


def hold_gpu() -> subprocess.Popen[str]:
    """A process that holds 512 MiB of the GPU until it is killed, for a minute at most."""
    code = (
        "import time, torch; held = torch.ones(1 << 27, device='cuda'); "
        "torch.cuda.synchronize(); print('ready', flush=True); time.sleep(60)"
    )
    # Out of reach of a signal to its starter's group.
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process
