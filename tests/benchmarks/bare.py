"""A worker for the server to run: a bare loop over the model of a case named ``bare``, the bench's own way otherwise.

Both are forked from one server: children of two servers were seen to differ by a few percent, either way round.
"""

from __future__ import annotations

import time

import torch

from lorabench.case import Case
from lorabench.model.adapter import attach
from lorabench.model.build import build_base
from lorabench.runner import worker
from lorabench.runner.job import Emit, Job


def run_job(job: Job, emit: Emit) -> None:
    [case] = job.cases
    if case.scenario != "bare":
        worker.run_job(job, emit)
        return
    result = {"proof": None, "memory": None, "tokens_per_s": None, "observations": {}}
    latency = {"step": bare_loop(case)}
    emit({"event": "result", "case": 0, "status": "ok", "error": None, "latency": latency, **result})


def bare_loop(case: Case) -> list[float]:
    """Seconds of each timed step, as one would take them by hand."""
    model = attach(build_base(case, torch.device("cpu")), case)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=case.learning_rate)
    ids = torch.randint(model.config.vocab_size, (case.batch_size, case.sequence_length))
    samples_s = []
    for step in range(case.measure.warmup + case.measure.steps):
        started = time.perf_counter()
        out = model(input_ids=ids, labels=ids)
        out.loss.backward()
        del out
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step >= case.measure.warmup:
            samples_s.append(time.perf_counter() - started)
    return samples_s
