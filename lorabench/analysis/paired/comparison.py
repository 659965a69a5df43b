"""What a comparison of two interpreters answers: its samples as they come, and the verdict on each metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Literal

from lorabench.analysis.paired.judgement import Judgement, Rules, Verdict
from lorabench.case import Case
from lorabench.environment import Environment
from lorabench.errors import EXIT_CASE_NOT_OK, EXIT_OK, EXIT_REGRESSION
from lorabench.record import Record

Side = Literal["base", "head"]
SIDES: tuple[Side, Side] = ("base", "head")
METRICS: Mapping[str, tuple[str, ...]] = {"train": ("step",), "infer": ("prefill", "decode")}
"""What is compared of a task. A lifecycle has no steps that could be sampled."""


@dataclass(frozen=True)
class Answer:
    """The verdict on one metric of one case. ``base_s`` and ``head_s`` are the medians over processes of each
    process's own median; ``lost`` counts processes that did not end ok; ``error`` is the first one's."""

    case: Case
    metric: str
    judgement: Judgement
    base_s: float | None
    head_s: float | None
    lost: Mapping[Side, int]
    error: str | None

    @property
    def verdict(self) -> Verdict:
        return self.judgement.verdict

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        told = {"key": self.case.key, "name": self.case.name, "scenario": self.case.scenario, "metric": self.metric}
        figures = {"base_s": self.base_s, "head_s": self.head_s, "lost": dict(self.lost), "error": self.error}
        return {"type": "verdict", **told, **asdict(self.judgement), **figures}


@dataclass
class Samples:
    """The samples of one case, as they come: a pair counts if both of its processes ended ok."""

    case: Case
    pairs: int = 0
    statistics: dict[str, dict[Side, list[float]]] = field(default_factory=dict)
    lost: dict[Side, int] = field(default_factory=lambda: {"base": 0, "head": 0})
    error: str | None = None
    given_up: bool = False

    def add(self, records: Mapping[Side, Record]) -> dict[str, dict[Side, float]]:
        """Takes a pair; its statistics by metric: a process's is the median of its steps. Empty if one is lost."""
        for side, record in records.items():
            if record.status != "ok":
                self.lost[side] += 1
                why = "" if record.error is None else f": {record.error.message}"
                self.error = self.error or f"{side} ended {record.status}{why}"
        if any(record.status != "ok" for record in records.values()):
            return {}
        self.pairs += 1
        found = {}
        for metric in METRICS[self.case.task]:
            timings = {side: record.latency.get(metric) for side, record in records.items()}
            # An encoder decodes nothing.
            pair = {side: timing.median_s for side, timing in timings.items() if timing is not None}
            if len(pair) == len(SIDES):
                found[metric] = pair
                for side, value in pair.items():
                    self.statistics.setdefault(metric, {"base": [], "head": []})[side].append(value)
        return found

    def answer(self, metric: str, judgement: Judgement) -> Answer:
        values = self.statistics.get(metric, {"base": [], "head": []})
        base_s, head_s = (median(values[side]) if values[side] else None for side in SIDES)
        return Answer(self.case, metric, judgement, base_s, head_s, dict(self.lost), self.error)


@dataclass(frozen=True)
class Comparison:
    """All that a run found out. ``ended`` says why it did, ``pairs`` and ``seconds`` what it took."""

    environments: Mapping[Side, Environment]
    rules: Rules
    answers: Sequence[Answer]
    ended: Literal["settled", "pairs", "budget"]
    pairs: int
    seconds: float

    @property
    def lost(self) -> int:
        """Processes that did not end ok."""
        by_case = {(answer.case.key, answer.case.seed): sum(answer.lost.values()) for answer in self.answers}
        return sum(by_case.values())

    def fails(self, strict: bool) -> list[Answer]:
        """The answers that are a regression: ``slower``, and ``inconclusive`` too if strict."""
        failing = ("slower", "inconclusive") if strict else ("slower",)
        return [answer for answer in self.answers if answer.verdict in failing]

    def exit_code(self, strict: bool) -> int:
        """1 for a regression, else 4 if a process did not end ok."""
        return EXIT_REGRESSION if self.fails(strict) else EXIT_CASE_NOT_OK if self.lost else EXIT_OK


def different_versions(environments: Mapping[Side, Environment]) -> list[tuple[str, str, str]]:
    """Library, base's version and head's, where they differ; ``none`` for what one lacks."""
    base, head = (environments[side].versions for side in SIDES)
    return [
        (library, base.get(library, "none"), head.get(library, "none"))
        for library in sorted({*base, *head})
        if base.get(library) != head.get(library)
    ]
