"""Runs a comparison: pairs of processes, in blocks, from case to case in turn, until every verdict is settled."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lorabench.ab.order import BLOCK_PAIRS, head_first
from lorabench.ab.process import SampleProcess
from lorabench.ab.sampler import Sampler
from lorabench.analysis.paired import Family, Rules
from lorabench.analysis.paired.comparison import METRICS, SIDES, Comparison, Samples, Side
from lorabench.case import Case
from lorabench.environment import Environment, Target, describe_environment
from lorabench.errors import DeviceError, InputError
from lorabench.record import Record
from lorabench.results_file import Existing, ResultsFile
from lorabench.runner.launcher import NoProgress, Progress
from lorabench.runner.outcome import Outcome, make_record

GIVE_UP_AFTER = 2
"""Lost processes of one side after which its case is left: what fails twice fails again."""


@dataclass(frozen=True)
class Options:
    """``budget_s`` is for each case, and what one case leaves of it is for the others; ``ahead`` pairs import at the
    same time, while nothing is measured."""

    rules: Rules = field(default_factory=Rules)
    budget_s: float = 600.0
    ahead: int = 1
    seed: int = 0


def run(
    cases: Sequence[Case],
    pythons: Mapping[Side, str],
    target: Target,
    *,
    options: Options | None = None,
    out: Path | None = None,
    existing: Existing = "refuse",
    trust_remote_code: bool = False,
    progress: Progress | None = None,
    begun: Callable[[Mapping[Side, Environment]], None] = lambda _: None,
) -> Comparison:
    """Compares ``cases`` under two interpreters. With ``out``, each sample is a record there as soon as it is known.

    ``begun`` is told both environments as soon as they are known.

    Raises:
        DeviceError: an interpreter's torch cannot use the device.
        InputError: an interpreter cannot run cases, or a case has no steps to compare.
        ResultsError: ``out`` is refused, or can no longer be written.
    """
    alone = [replace(case, group=None) for case in _distinct(cases)]
    for case in alone:
        if case.task not in METRICS:
            raise InputError(f"{case.name}: task: {case.task} has no steps to compare; leave it out with -k")
    with ExitStack() as held:
        file = held.enter_context(ResultsFile(out, existing, resumable=False)) if out else None
        progress = progress or NoProgress()
        sampler = held.enter_context(Sampler(target, trust_remote_code=trust_remote_code, warn=progress.warning))
        return _Run(alone, pythons, target, options or Options(), file, sampler, progress, begun).run()


def _distinct(cases: Sequence[Case]) -> list[Case]:
    """What two scenarios share is compared once."""
    return list({(case.key, case.seed): case for case in reversed(cases)}.values())[::-1]


class _Run:
    def __init__(
        self,
        cases: Sequence[Case],
        pythons: Mapping[Side, str],
        target: Target,
        options: Options,
        file: ResultsFile | None,
        sampler: Sampler,
        progress: Progress,
        begun: Callable[[Mapping[Side, Environment]], None],
    ) -> None:
        self._pythons, self._target, self._options = pythons, target, options
        self._file, self._sampler, self._progress, self._begun = file, sampler, progress, begun
        self._samples = [Samples(case) for case in cases]
        self._comparisons = [(number, metric) for number, case in enumerate(cases) for metric in METRICS[case.task]]
        self._family = Family(len(self._comparisons), options.rules)
        self._taken = [0] * len(cases)
        self._environments: dict[Side, Environment] = {}
        self._overlap = True
        self._chunk_s = 0.0

    def run(self) -> Comparison:
        self._meet()
        began = time.monotonic()
        self._deadline = began + self._options.budget_s * len(self._samples)
        # At most: what is settled early takes no more.
        self._progress.planned(2 * self._options.rules.pairs * len(self._samples))
        ended_by_budget = False
        for block in range(math.ceil(self._options.rules.pairs / BLOCK_PAIRS)):
            for number in range(len(self._samples)):
                if self._is_open(number) and not ended_by_budget:
                    ended_by_budget = not self._take_block(number, block)
        for number in range(len(self._samples)):
            self._look(number, final=True)
        settled = not any(self._is_open(number) for number in range(len(self._samples)))
        return Comparison(
            dict(self._environments),
            self._options.rules,
            [
                self._samples[number].answer(metric, self._family.judgement(index))
                for number in range(len(self._samples))
                for index, metric in self._measured(number)
            ],
            "budget" if ended_by_budget else "settled" if settled else "pairs",
            sum(samples.pairs for samples in self._samples),
            time.monotonic() - began,
        )

    def _measured(self, number: int) -> list[tuple[int, str]]:
        """The comparisons of a case; before its first pair nobody knows which of them there will be."""
        own = [(index, metric) for index, (owner, metric) in enumerate(self._comparisons) if owner == number]
        return [(index, metric) for index, metric in own if metric in self._samples[number].statistics] or own[:1]

    def _is_open(self, number: int) -> bool:
        if self._samples[number].given_up:
            return False
        return any(not self._family.judgement(index).settled for index, _ in self._measured(number))

    def _look(self, number: int, final: bool = False) -> None:
        self._family.look(*(i for i, (owner, _) in enumerate(self._comparisons) if owner == number), final=final)

    def _take_block(self, number: int, block: int) -> bool:
        """The pairs of a block, and a look at them. False if the budget would not have lasted."""
        case = self._samples[number].case
        left = min(BLOCK_PAIRS, self._options.rules.pairs - block * BLOCK_PAIRS)
        order = head_first(f"{self._options.seed}:{case.key}:{case.seed}", block)[:left]
        for start in range(0, left, self._options.ahead):
            chunk = order[start : start + self._options.ahead]
            began = time.monotonic()
            if began + self._chunk_s > self._deadline:
                return False
            self._take_pairs(number, chunk)
            self._chunk_s = time.monotonic() - began
            if self._samples[number].given_up:
                return True
        self._look(number)
        return True

    def _take_pairs(self, number: int, order: Sequence[bool]) -> None:
        samples = self._samples[number]
        wanted: list[Side] = [side for head in order for side in (("head", "base") if head else ("base", "head"))]
        started = [self._sampler.start(self._pythons[side]) for side in wanted] if self._overlap else []
        for process in started:
            process.greet()
        for pair in range(len(order)):
            records: dict[Side, Record] = {}
            for place in range(len(SIDES)):
                side = wanted[2 * pair + place]
                if self._overlap:
                    process = started[2 * pair + place]
                else:
                    process = self._sampler.start(self._pythons[side])
                    process.greet()
                records[side] = self._measure(number, side, place, process)
            self._taken[number] += 1
            self._count(number, records)
            if max(samples.lost.values()) >= GIVE_UP_AFTER:
                samples.given_up = True
                for process in started:
                    process.close()
                return

    def _meet(self) -> None:
        """Asks both interpreters what they are, which also brings their libraries into the page cache."""
        processes = {side: self._sampler.start(self._pythons[side]) for side in SIDES}
        for side, process in processes.items():
            hello = process.greet()
            self._environments[side] = self._describe(side, hello["interpreter"])
            if hello["holds_cuda"] is not None:
                # A process that waits would hold memory that belongs to the one that is measured.
                self._overlap = False
                self._progress.warning(f"{side}: processes import one at a time: {hello['holds_cuda']}")
        for process in processes.values():
            process.close()
        if self._file:
            for environment in {known.id: known for known in self._environments.values()}.values():
                self._file.begin(environment)
        self._begun(self._environments)

    def _describe(self, side: Side, interpreter: Mapping[str, Any]) -> Environment:
        versions = interpreter["versions"]
        if self._target.device.type == "cuda" and "cuda" not in versions:
            raise DeviceError(
                f"--{side} {self._pythons[side]}: torch {versions.get('torch')} was built without CUDA: "
                "install a CUDA build of it"
            )
        return describe_environment(self._target, interpreter)

    def _measure(self, number: int, side: Side, place: int, process: SampleProcess) -> Record:
        case, pair = self._samples[number].case, self._taken[number]
        # The two samples of a pair differ in this number, whatever their interpreters are.
        repeat = 2 * pair + SIDES.index(side)
        self._progress.started(case, repeat)
        started_at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        outcome = _noted(self._sampler.measure(process, case, repeat), side, pair, place)
        environment = self._environments[side]
        record = make_record(case, outcome, environment=environment, repeat=repeat, started_at=started_at)
        if self._file:
            self._file.append(record)
        self._progress.finished(record)
        return record

    def _count(self, number: int, records: Mapping[Side, Record]) -> None:
        found = self._samples[number].add(records)
        for index, (owner, metric) in enumerate(self._comparisons):
            if owner == number and metric in found and not self._family.judgement(index).settled:
                self._family.add(index, math.log(found[metric]["head"] / found[metric]["base"]))


def _noted(outcome: Outcome, side: Side, pair: int, place: int) -> Outcome:
    """With the sample's place in the comparison among its observations."""
    observations = outcome.results.get("observations") or {}
    noted = {**observations, "ab": {"side": side, "pair": pair, "place": place}}
    return replace(outcome, results={**outcome.results, "observations": noted})
