"""Collects a pool: many samples of one case under this very interpreter, from which comparisons are drawn again and
again to see how often the verdict is right (:mod:`lorabench.ab.rates`).

``python -m lorabench.ab.pool SCENARIO --out FILE`` starts a batch of processes, lets all import, measures one after the
other, and starts the next batch. With ``--slow 0.05`` a share of each batch runs training steps that are slowed by so
much (:mod:`lorabench.runner.slowed`); the delay is calibrated by the first batch, which is not slowed. The file is
JSON Lines, appended to: a collection that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, TextIO

from lorabench.ab.sampler import Sampler
from lorabench.case import Case
from lorabench.environment import Environment, Target, describe_environment, resolve_device
from lorabench.errors import InputError, LorabenchError
from lorabench.runner.outcome import Outcome
from lorabench.runner.slowed import DELAY_VARIABLE
from lorabench.scenario import load_scenarios, select

SLOWED_WORKER = "lorabench.runner.slowed:run_job"


@dataclass(frozen=True)
class Plan:
    """What is collected: ``samples`` in all, ``batch`` of them at a time, in shares of none and each of ``slow``."""

    samples: int
    batch: int
    slow: tuple[float, ...]
    seconds: float
    seed: int

    def kinds(self, batch: int) -> list[float]:
        """The slow-down of each sample of a batch, in the order in which they are measured."""
        kinds = (0.0, *self.slow)
        drawn = [kinds[index % len(kinds)] for index in range(self.batch)]
        random.Random(f"{self.seed}:{batch}").shuffle(drawn)
        return drawn


def collect(case: Case, target: Target, out: Path, plan: Plan) -> None:
    """Appends samples to ``out`` until there are ``plan.samples``, or until the next batch would end too late.

    Raises:
        InputError: this interpreter cannot run cases, or ``out`` holds another collection.
        LorabenchError: a sample did not end ok.
    """
    began = time.monotonic()
    known = _read(out, case)
    with out.open("a", encoding="utf-8") as file, Sampler(target) as sampler:
        taken = sum(line["type"] == "sample" for line in known)
        batch = 1 + max((line["batch"] for line in known if line["type"] == "sample"), default=-1)
        delays = _delays(known)
        batch_s = 0.0
        while taken < plan.samples and time.monotonic() - began + batch_s < plan.seconds:
            batch_began = time.monotonic()
            kinds = plan.kinds(batch) if delays is not None or not plan.slow else [0.0] * plan.batch
            for line in _batch(case, target, sampler, batch, kinds, delays or {}):
                if line["type"] == "pool":
                    if known:
                        _check_same(out, known[0], line)
                        continue
                    known.append(line)
                else:
                    taken += 1
                    known.append(line)
                _write(file, line)
            if plan.slow and delays is None:
                step_s = median(line["step_s"] for line in known if line["type"] == "sample")
                delays = {share: share * step_s for share in plan.slow}
                _write(file, {"type": "calibration", "step_s": step_s, "delays_s": list(delays.items())})
            batch += 1
            batch_s = time.monotonic() - batch_began
            print(f"{taken}/{plan.samples} {batch_s:.1f} s", file=sys.stderr)  # noqa: T201 - its only progress


def _batch(
    case: Case, target: Target, sampler: Sampler, batch: int, kinds: Sequence[float], delays: dict[float, float]
) -> Iterator[dict[str, Any]]:
    """Where the samples were taken, and then each."""
    processes = [
        sampler.start(sys.executable, worker=SLOWED_WORKER, environment={DELAY_VARIABLE: repr(delays[kind])})
        if kind
        else sampler.start(sys.executable)
        for kind in kinds
    ]
    hellos = [process.greet() for process in processes]
    yield _header(case, describe_environment(target, hellos[0]["interpreter"]), hellos[0]["holds_cuda"])
    for position, (kind, process) in enumerate(zip(kinds, processes, strict=True)):
        outcome = sampler.measure(process, case, 0)
        if outcome.status != "ok":
            raise LorabenchError(f"sample {position} of batch {batch} ended {outcome.status}: {outcome.error}")
        yield _sample(outcome, batch, position, kind)


def _header(case: Case, environment: Environment, holds_cuda: str | None) -> dict[str, Any]:
    told = environment.to_dict()
    # The machine's state of the day would keep a resumed collection from being the same.
    told = {name: told[name] for name in ("device", "driver", "versions", "cpu", "os", "lorabench")}
    return {"type": "pool", "key": case.key, "case": case.to_dict(), "holds_cuda": holds_cuda, "environment": told}


def _sample(outcome: Outcome, batch: int, position: int, kind: float) -> dict[str, Any]:
    samples_s = {
        name: outcome.results["latency"][name]
        for name in ("step", "prefill", "decode")
        if name in outcome.results["latency"]
    }
    return {
        "type": "sample",
        "batch": batch,
        "position": position,
        "slow": kind,
        **{f"{name}_s": median(values) for name, values in samples_s.items()},
        "steps": max(len(values) for values in samples_s.values()),
        "peak_allocated_bytes": outcome.results["memory"]["peak_allocated_bytes"],
        "wall_s": round(outcome.wall_s, 3),
        "at_s": round(time.time(), 1),
    }


def _read(out: Path, case: Case) -> list[dict[str, Any]]:
    if not out.exists():
        return []
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    if lines and (lines[0].get("type") != "pool" or lines[0]["key"] != case.key):
        raise InputError(f"{out}: holds another case's samples: choose another --out")
    return lines


def _check_same(out: Path, first: dict[str, Any], now: dict[str, Any]) -> None:
    if first["environment"] != json.loads(json.dumps(now["environment"])):
        raise InputError(f"{out}: was collected on another machine or with other versions: choose another --out")


def _delays(known: Sequence[dict[str, Any]]) -> dict[float, float] | None:
    calibrated = [line for line in known if line["type"] == "calibration"]
    return dict(calibrated[0]["delays_s"]) if calibrated else None


def _write(file: TextIO, line: dict[str, Any]) -> None:
    file.write(json.dumps(line) + "\n")
    file.flush()


def main(arguments: Sequence[str] | None = None) -> None:
    """As on the command line."""
    parser = argparse.ArgumentParser(prog="lorabench.ab.pool", description=__doc__.split("\n\n")[0])
    parser.add_argument("scenario", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="file to append samples to")
    parser.add_argument("-k", dest="select", default="", help="which case of the scenario, if it has several")
    parser.add_argument("--set", dest="overrides", action="append", metavar="KEY=VALUE", help="change a setting")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--batch", type=int, default=4, help="processes that import at the same time")
    parser.add_argument("--slow", type=float, action="append", default=[], help="a slow-down as a share: 0.05")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no batch that would end later")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    plan = Plan(options.samples, options.batch, tuple(options.slow), options.seconds, options.seed)
    try:
        target = resolve_device(options.device)
        scenarios = load_scenarios([options.scenario], target.device.type, overrides=options.overrides or ())
        cases = select([case for scenario in scenarios for case in scenario.cases], options.select)
        if len(cases) != 1:
            raise InputError(f"{options.scenario}: {len(cases)} cases: choose one with -k")
        collect(cases[0], target, options.out, plan)
    except LorabenchError as error:
        parser.exit(error.exit_code, f"{error}\n")


if __name__ == "__main__":
    main()
