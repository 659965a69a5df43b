"""The course of a comparison, with a sampler that measures nothing: which processes, in which order, until when."""

from __future__ import annotations

import errno
import math
import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import lorabench.ab.run as ab
from lorabench.analysis.paired import Rules
from lorabench.case import Case
from lorabench.environment import EnvironmentDevice, Target
from lorabench.errors import DeviceError, InputError, ResultsError
from lorabench.results import read_results
from lorabench.runner.outcome import Outcome

TARGET = Target("cpu", EnvironmentDevice("cpu", "Imaginary CPU", 2**30))
PYTHONS = {"base": "base-python", "head": "head-python"}
CASE = Case("tiny", "train", "llama-tiny")
Behaviour = Callable[[str, Case, int], Outcome]


@dataclass
class Process:
    python: str
    closed: bool = False
    greeted: bool = False
    holds_cuda: str | None = None

    def greet(self) -> dict[str, Any]:
        self.greeted = True
        versions = {"python": "3.11", "torch": "2.13.0", "peft": "0.21" if self.python == "base-python" else "0.22"}
        facts = {"versions": versions, "torch_threads": 1}
        return {"event": "hello", "holds_cuda": self.holds_cuda, "interpreter": facts}

    def close(self) -> None:
        self.closed = True


@dataclass
class Sampler:
    """Notes what is asked of it: processes alive at each measurement, and whose they are."""

    behave: Behaviour
    holds_cuda: str | None = None
    processes: list[Process] = field(default_factory=list)
    measured: list[str] = field(default_factory=list)
    alive: list[int] = field(default_factory=list)

    def start(self, python: str) -> Process:
        self.processes.append(Process(python, holds_cuda=self.holds_cuda))
        return self.processes[-1]

    def measure(self, process: Process, case: Case, repeat: int) -> Outcome:
        assert all(one.greeted for one in self.processes), "nothing may import while something is measured"
        self.alive.append(sum(not one.closed for one in self.processes))
        self.measured.append(process.python)
        process.closed = True
        return self.behave(process.python, case, repeat)

    def __enter__(self) -> Sampler:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.close()


def timed(median_s: float, *names: str) -> Outcome:
    return Outcome("ok", None, 1.0, {"latency": {name: [median_s * 0.9, median_s, median_s * 1.5] for name in names}})


def steps(ratio: float, spread: float = 0.01) -> Behaviour:
    lot = random.Random(0)

    def behave(python: str, case: Case, repeat: int) -> Outcome:
        names = ("step",) if case.task == "train" else ("prefill", "decode")
        return timed(0.02 * math.exp(lot.gauss(0, spread)) * (ratio if python == "head-python" else 1), *names)

    return behave


@pytest.fixture
def sampler(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Sampler]:
    def use(behave: Behaviour, holds_cuda: str | None = None) -> Sampler:
        made = Sampler(behave, holds_cuda)
        monkeypatch.setattr(ab, "Sampler", lambda *_, **__: made)
        return made

    return use


def run(*cases: Case, **options: Any) -> Any:
    out = options.pop("out", None)
    return ab.run(cases, PYTHONS, TARGET, options=ab.Options(**options), out=out)


def test_a_slowdown_is_found_and_ends_the_run_early(sampler):
    sampler(steps(1.10))
    found = run(CASE)
    assert [answer.verdict for answer in found.answers] == ["slower"]
    assert (found.ended, found.exit_code(strict=False)) == ("settled", 1)
    assert found.pairs < 24
    assert found.answers[0].head_s == pytest.approx(found.answers[0].base_s * 1.10, rel=0.02)


def test_pairs_are_measured_one_by_one_in_balanced_order(sampler):
    used = sampler(steps(1.0, spread=0.5))
    found = run(CASE, rules=Rules(pairs=8))
    pairs = [tuple(used.measured[place : place + 2]) for place in range(0, len(used.measured), 2)]
    assert all(set(pair) == {"base-python", "head-python"} for pair in pairs)
    for block in (pairs[:4], pairs[4:]):
        assert Counter(first for first, _ in block) == {"base-python": 2, "head-python": 2}
    assert max(used.alive) == 2
    assert found.ended == "pairs"
    assert (found.exit_code(strict=False), found.exit_code(strict=True)) == (0, 1)


def test_processes_import_ahead_together(sampler):
    used = sampler(steps(1.0, spread=0.5))
    run(CASE, rules=Rules(pairs=8), ahead=4)
    assert used.alive == [8, 7, 6, 5, 4, 3, 2, 1] * 2


def test_who_holds_cuda_is_alone(sampler):
    used = sampler(steps(1.0, spread=0.5), holds_cuda="CUDA was initialised in torch by an import")
    run(CASE, rules=Rules(pairs=4), ahead=4)
    assert used.alive == [1] * 8


def test_the_budget_ends_the_run_with_a_last_look(sampler, monkeypatch):
    clock = iter(range(0, 10**6, 10))
    monkeypatch.setattr(ab.time, "monotonic", lambda: float(next(clock)))
    sampler(steps(1.0, spread=0.5))
    found = run(CASE, budget_s=100.0)
    assert found.ended == "budget"
    assert 0 < found.pairs < 24


def test_each_metric_of_inference_has_a_verdict(sampler):
    sampler(steps(1.0))
    found = run(Case("tiny", "infer", "llama-tiny"))
    assert [(answer.metric, answer.verdict) for answer in found.answers] == [
        ("prefill", "equivalent"),
        ("decode", "equivalent"),
    ]


def test_an_encoder_decodes_nothing_and_is_settled_all_the_same(sampler):
    lot = random.Random(0)
    sampler(lambda *_: timed(0.02 * math.exp(lot.gauss(0, 0.005)), "prefill"))
    found = run(Case("tiny", "infer", "bert-base"))
    assert [(answer.metric, answer.verdict) for answer in found.answers] == [("prefill", "equivalent")]
    assert found.ended == "settled"


def test_lost_processes_are_counted_and_twice_is_enough(sampler):
    def behave(python: str, case: Case, repeat: int) -> Outcome:
        if python == "base-python":
            return timed(0.02, "step")
        return Outcome("failed", {"type": "RuntimeError", "message": "no such kernel", "phase": "forward"}, 1.0)

    used = sampler(behave)
    found = run(CASE)
    [answer] = found.answers
    assert answer.lost == {"base": 0, "head": 2}
    assert answer.error == "head ended failed: no such kernel"
    assert len(used.measured) == 4
    assert found.exit_code(strict=False) == 4


def test_every_sample_is_a_record_of_its_own(sampler, tmp_path: Path):
    sampler(steps(1.0, spread=0.5))
    out = tmp_path / "out.jsonl"
    run(CASE, Case("tiny", "train", "llama-tiny", batch_size=2), rules=Rules(pairs=4), out=out)
    results = read_results(out)
    assert len(results.latest()) == len(results.records) == 16
    assert len(results.environments) == 2
    for record in results.records:
        side = record.observations["ab"]["side"]
        assert results.environments[record.environment].versions["peft"] == ("0.21" if side == "base" else "0.22")


def test_messages_name_no_option_that_the_command_lacks(sampler, tmp_path: Path, monkeypatch):
    sampler(steps(1.0, spread=0.5))
    out = tmp_path / "out.jsonl"
    run(CASE, rules=Rules(pairs=4), out=out)
    with pytest.raises(ResultsError, match=r"exists: choose another --out, or say --force$"):
        run(CASE, out=out)

    def fill_up(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def behave(*_: object) -> Outcome:
        monkeypatch.setattr(os, "pwrite", fill_up)
        return timed(0.02, "step")

    sampler(behave)
    with pytest.raises(ResultsError, match=r"are kept; make room and start again with another --out$"):
        run(CASE, out=tmp_path / "other.jsonl")


def test_what_cannot_be_compared_is_refused(sampler, monkeypatch):
    sampler(steps(1.0))
    with pytest.raises(InputError, match="lifecycle has no steps"):
        run(Case("life", "lifecycle", "llama-tiny"))
    monkeypatch.setattr(ab, "describe_environment", lambda *_: pytest.fail("described"))
    cuda = Target("cuda:0", EnvironmentDevice("cuda", "Imaginary GPU", 2**30))
    with pytest.raises(DeviceError, match=r"--base base-python: torch 2\.13\.0 was built without CUDA"):
        ab.run([CASE], PYTHONS, cuda)
