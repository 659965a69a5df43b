"""A worker for the server to run: a bare loop over the model of a case named ``bare``, the bench's own way otherwise.

Both are forked from one server: children of two servers were seen to differ by a few percent, either way round.
"""

from __future__ import annotations

import time
from itertools import pairwise

import torch

from lorabench.case import Case
from lorabench.model.adapter import attach
from lorabench.model.build import build_base
from lorabench.runner import worker
from lorabench.runner.job import Emit, Job

STEPS_BEFORE_WARMUP = 6
"""What the bench runs for bytes and proof in the same process: a bare loop must be as far along."""


def run_job(job: Job, emit: Emit) -> None:
    [case] = job.cases
    if case.scenario != "bare":
        worker.run_job(job, emit)
        return
    result = {"proof": None, "memory": None, "tokens_per_s": None, "observations": {}}
    latency = {"step": bare_loop(case, torch.device(job.device))}
    emit({"event": "result", "case": 0, "status": "ok", "error": None, "latency": latency, **result})


def bare_loop(case: Case, device: torch.device) -> list[float]:
    """Seconds of each timed step, as one would take them by hand: on CUDA, from an event after each.

    Not the whole loop's time over its steps: a loop that begins with an idle GPU begins with the launches of a whole
    forward pass that nothing hides, and ends when the last kernel does. Seen on an H100 with 8 steps of 150 ms: the
    loop's time over its steps is 1.1% above the median step, and one step that the host was late for moves it by 5%.
    """
    model = attach(build_base(case, device), case)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=case.learning_rate)
    ids = torch.randint(model.config.vocab_size, (case.batch_size, case.sequence_length), device=device)

    def step() -> None:
        out = model(input_ids=ids, labels=ids)
        out.loss.backward()
        del out
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for _ in range(STEPS_BEFORE_WARMUP + case.measure.warmup):
        step()
    if device.type == "cuda":
        events = [torch.cuda.Event(enable_timing=True) for _ in range(case.measure.steps + 1)]
        events[0].record()
        for event in events[1:]:
            step()
            event.record()
        torch.cuda.synchronize()
        return [before.elapsed_time(after) / 1000 for before, after in pairwise(events)]
    marks = [time.perf_counter()]
    for _ in range(case.measure.steps):
        step()
        marks.append(time.perf_counter())
    return [after - before for before, after in pairwise(marks)]
