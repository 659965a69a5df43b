"""Runs jobs in the test's own process, and writes tiny models for them to run."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from lorabench.case import Case
from lorabench.device.cpu import CpuDevice
from lorabench.environment import Environment
from lorabench.measure.phases import UnobservedPhases
from lorabench.record import Record
from lorabench.runner.job import Job, Mode
from lorabench.runner.outcome import make_record, outcomes
from lorabench.runner.worker import run_job
from lorabench.workload import make_workload

NO_PHASES = UnobservedPhases(lambda phase: None)
LLAMA = {
    "vocab_size": 256,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
OPT = {
    "vocab_size": 256,
    "hidden_size": 32,
    "word_embed_proj_dim": 32,
    "ffn_dim": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
GPT2 = {"vocab_size": 256, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
T5 = {
    "vocab_size": 256,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}


# As the server does before it forks: a device that settles collects garbage, and would visit every library each time.
gc.collect()
gc.freeze()


class Listener:
    """:class:`~lorabench.runner.job.Emit` into a list."""

    def __init__(self) -> None:
        self.events: list[Mapping[str, Any]] = []
        self.last_phase: str | None = None

    def __call__(self, event: Mapping[str, Any]) -> None:
        self.events.append(event)
        if event["event"] == "phase":
            self.last_phase = event["phase"]

    def phase(self, name: str, case: int) -> None:
        self.last_phase = name


def write_config(folder: Path, model_type: str, config: Mapping[str, Any]) -> str:
    """A local model that has an architecture and no weights; its path, as a case's ``model``."""
    AutoConfig.for_model(model_type, **config).save_pretrained(folder)
    return str(folder)


def measure(*cases: Case, mode: Mode = "single") -> list[Mapping[str, Any]]:
    """The result events of a job of ``cases`` on the CPU."""
    listener = Listener()
    run_job(Job(cases, mode, "cpu", repeat=0, timeout_s=60.0), listener)
    return [event for event in listener.events if event["event"] == "result"]


def record(case: Case, environment: Environment) -> Record:
    """What a results file would say of ``case``."""
    job = Job((case,), "single", "cpu", repeat=0, timeout_s=60.0)
    listener = Listener()
    run_job(job, listener)
    end = {"event": "end", "status": "failed", "error": None, "case": None}
    [outcome] = outcomes(job, [*listener.events, end], wall_s=1.0)
    return make_record(case, outcome, environment=environment, repeat=0, started_at="2026-01-02T03:04:05+00:00")


def built(case: Case) -> Any:
    """The workload of ``case`` on the CPU, ready to step."""
    workload = make_workload(case, CpuDevice())
    workload.build(NO_PHASES)
    workload.start()
    return workload
