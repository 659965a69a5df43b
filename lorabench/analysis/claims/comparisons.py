"""Times of two states of one model, taken in turn, compared phase by phase; and the verdict over many comparisons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from lorabench.analysis.claims.claim import Judgement
from lorabench.analysis.claims.conditions import OTHER_CASES, Facts, condition, facts, in_order, labels
from lorabench.analysis.claims.evidence import Evidence, keys, setting
from lorabench.analysis.claims.lifecycle import median_ms, span
from lorabench.analysis.claims.timing import MIN_ROUNDS, busy_ratio, in_rounds
from lorabench.analysis.statistics import ALPHA, Estimate, holm
from lorabench.record import Record

PHASES = ("prefill", "decode")

Outcome = Literal["held", "failed", "undecided"]


@dataclass(frozen=True)
class RatioTest:
    """``over / under`` with its interval; the p values of "the claim holds" and of "it fails", 1 where it cannot."""

    ratio: Estimate
    p_held: float
    p_failed: float


@dataclass(frozen=True)
class Comparison:
    """One phase of a base and of one state of the adapter. ``outcome`` is what all comparisons together leave of it,
    by ``p_held`` and ``p_failed``: those of its test, or what Holm's correction makes of them."""

    base: Record
    other: Record
    phase: str
    test: RatioTest
    outcome: Outcome = "undecided"
    p_held: float = 1.0
    p_failed: float = 1.0

    @property
    def facts(self) -> Facts:
        return facts(self.other, phase=self.phase)

    @property
    def quantization(self) -> str:
        return str(setting(self.other, "quantization"))

    @property
    def busy_ratio(self) -> float | None:
        return busy_ratio(self.other, self.base, self.phase)

    @property
    def unstable(self) -> bool:
        return any(self.phase in one.latency and one.latency[self.phase].unstable for one in (self.base, self.other))


def compare(
    evidence: Evidence, state: str, test: Callable[[Sequence[float], Sequence[float]], RatioTest]
) -> list[Comparison]:
    """Every base and every ``state`` that were timed in turn, in both phases; too few rounds are left out."""
    found = []
    pairs = evidence.pairs("adapter_state", "base", state, {"task": "infer"}, in_turn=True)
    bases = {other.identity: base for base, other in pairs}
    for other in in_order(other for _, other in pairs):
        base = bases[other.identity]
        for phase in PHASES:
            timed = in_rounds((other, base), phase)
            if len(timed) == 2 and len(timed[0].rounds_s) >= MIN_ROUNDS:
                found.append(Comparison(base, other, phase, test(timed[0].rounds_s, timed[1].rounds_s)))
    return found


def lacking(comparisons: Sequence[Comparison], state: str, groups: Mapping[str, Sequence[str]]) -> list[str]:
    """Which phases of which groups of dtypes have no comparison, in words."""
    return [
        f"{phase} of base and {state}, timed in turn, in {name} ({MIN_ROUNDS} rounds or more)"
        for name, quantizations in groups.items()
        for phase in PHASES
        if not any(one.phase == phase and one.quantization in quantizations for one in comparisons)
    ]


def settle(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Each comparison's outcome.

    Where all hold, or all fail, each test counts as it is: an intersection-union test (Berger 1982). Where only some
    do, those were picked from many, and Holm's correction over them runs first.
    """
    held, failed = [one.test.p_held for one in comparisons], [one.test.p_failed for one in comparisons]
    if len({_outcome(*p_values) for p_values in zip(held, failed, strict=True)}) > 1:
        held, failed = holm(held), holm(failed)
    return [
        replace(one, outcome=_outcome(p_held, p_failed), p_held=p_held, p_failed=p_failed)
        for one, p_held, p_failed in zip(comparisons, held, failed, strict=True)
    ]


def judge_comparisons(settled: Sequence[Comparison]) -> tuple[Judgement, str | None, float]:
    """The verdict over settled comparisons, its condition, and the p value that it rests on."""
    held, failed = ([one for one in settled if one.outcome == outcome] for outcome in ("held", "failed"))
    if held and failed:
        # That there is one which holds, and one which fails; Holm's factor is the number of comparisons.
        p_value = len(settled) * max(min(one.test.p_held for one in held), min(one.test.p_failed for one in failed))
        where = condition([one.facts for one in held], [one.facts for one in failed])
        if undecided := len(settled) - len(held) - len(failed):
            # Some of the other cases are undecided.
            where = where.replace(OTHER_CASES, f"in {len(held)} of {len(settled)} comparisons")
            where = f"{where}; undecided in {undecided}"
        return "conditional", where, p_value
    if len(failed) == len(settled):
        return "refuted", None, max(one.test.p_failed for one in settled)
    verdict: Judgement = "supported" if len(held) == len(settled) else "inconclusive"
    return verdict, None, max(one.test.p_held for one in settled)


def comparison_rows(settled: Sequence[Comparison], words: Mapping[Outcome, str]) -> tuple[Mapping[str, Any], ...]:
    """A row a comparison; ``words`` say an outcome. Beside it the p values that make it: an interval is of one
    comparison, and does not show what a correction over all of them leaves."""
    on_gpu = any(one.busy_ratio is not None for one in settled)
    return tuple(
        {
            "case": name,
            "phase": one.phase,
            "base ms": median_ms(one.base, one.phase),
            "adapter ms": median_ms(one.other, one.phase),
            "ratio": one.test.ratio.value,
            "low": one.test.ratio.low,
            "high": one.test.ratio.high,
            **({"GPU ratio": one.busy_ratio} if on_gpu else {}),
            f"p, {words['held']}": one.p_held,
            f"p, {words['failed']}": one.p_failed,
            "outcome": words[one.outcome],
            "unstable": one.unstable,
        }
        for one, name in zip(settled, _names(settled), strict=True)
    )


def _names(comparisons: Sequence[Comparison]) -> list[str]:
    """A name for each; one case may have been timed in turn for several scenarios, which are named then."""
    names = labels([one.other for one in comparisons])
    times = Counter((name, one.phase) for name, one in zip(names, comparisons, strict=True))
    return [
        f"{name} ({one.other.scenario})" if times[name, one.phase] > 1 else name
        for name, one in zip(names, comparisons, strict=True)
    ]


def compared_keys(comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    return keys(record for one in comparisons for record in (one.base, one.other))


def ranges(comparisons: Sequence[Comparison]) -> str:
    """``1.2 to 1.5 in prefill, 1.1 to 1.8 in decode``."""
    return ", ".join(
        f"{span([one.test.ratio.value for one in comparisons if one.phase == phase])} in {phase}" for phase in PHASES
    )


def busy_ranges(comparisons: Sequence[Comparison]) -> str:
    """A sentence on the same ratios of the time in which the GPU had work; empty where none was profiled."""
    told = {
        phase: [one.busy_ratio for one in comparisons if one.phase == phase and one.busy_ratio is not None]
        for phase in PHASES
    }
    parts = [f"{span(ratios, digits=4)} times as long in {phase}" for phase, ratios in told.items() if ratios]
    return f" Waiting for launches left out, the GPU was busy {', '.join(parts)} (profiled once each)." if parts else ""


def instability(comparisons: Sequence[Comparison]) -> str:
    """A sentence on how many comparisons rest on unstable times; empty where none does."""
    count = sum(one.unstable for one in comparisons)
    return f" Times were unstable in {count} of {len(comparisons)} comparisons." if count else ""


def _outcome(p_held: float, p_failed: float) -> Outcome:
    return "held" if p_held <= ALPHA else "failed" if p_failed <= ALPHA else "undecided"
