"""A worker whose training steps are slower than the case's: it shows what a comparison of times can see.

Each optimizer step first spends ``LORABENCH_STEP_DELAY_S`` seconds on the host, and on CUDA as long on the GPU at the
same time. Where the GPU is the slower of the two, the host's share vanishes in its lead; where launches are, the GPU's
share vanishes in its waiting: either way the step gets longer by the delay. Standard library and torch only.
"""

from __future__ import annotations

import os
import time
from typing import Any

from lorabench.errors import InputError
from lorabench.runner.job import Emit, Job

DELAY_VARIABLE = "LORABENCH_STEP_DELAY_S"
_PROBE_CYCLES = 20_000_000


def run_job(job: Job, emit: Emit) -> None:
    """As :func:`lorabench.runner.worker.run_job`, slowed down.

    Raises:
        InputError: the job has no optimizer steps.
    """
    if any(case.task != "train" for case in job.cases):
        raise InputError("only training steps can be slowed: give a case with task: train")
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    from lorabench.runner.worker import run_job as run_job_unslowed

    delay = _Delay(float(os.environ[DELAY_VARIABLE]), on_cuda=job.device.startswith("cuda"))
    hook = register_optimizer_step_pre_hook(delay)
    try:
        run_job_unslowed(job, emit)
    finally:
        hook.remove()


class _Delay:
    """An optimizer's hook that spends ``seconds``."""

    def __init__(self, seconds: float, on_cuda: bool) -> None:
        self._seconds = seconds
        self._on_cuda = on_cuda
        self._cycles: int | None = None

    def __call__(self, *_: Any) -> None:
        if self._on_cuda:
            self._sleep_on_gpu()
        # Seconds of this thread's work, not of the clock: like other work, it takes longer on a core that is shared.
        started = time.thread_time()
        while time.thread_time() - started < self._seconds:
            pass

    def _sleep_on_gpu(self) -> None:
        import torch

        if self._cycles is None:
            self._cycles = round(self._seconds * _cycles_per_s())
        torch.cuda._sleep(self._cycles)


def _cycles_per_s() -> float:
    """Of the GPU's clock under load: in the first step, which no pass counts."""
    import torch

    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(_PROBE_CYCLES)
    begin.record()
    torch.cuda._sleep(_PROBE_CYCLES)
    end.record()
    end.synchronize()
    return _PROBE_CYCLES / (float(begin.elapsed_time(end)) * 1e-3)
