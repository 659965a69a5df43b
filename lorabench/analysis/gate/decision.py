"""What follows from all cases: passed, failed, or not comparable, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lorabench.analysis.gate.baseline import Baseline
from lorabench.analysis.gate.comparison import Change, Kind, Outcome, compare
from lorabench.analysis.gate.environments import differences, remarks
from lorabench.analysis.gate.pairing import Pairing, match
from lorabench.environment import Environment
from lorabench.errors import EXIT_NOT_COMPARABLE, EXIT_OK, EXIT_REGRESSION
from lorabench.record import Record

Verdict = Literal["passed", "failed", "not comparable"]

KINDS: tuple[Kind, ...] = ("not ok", "lost", "more", "new", "fewer", "equal")


@dataclass(frozen=True)
class Policy:
    """What is asked for beyond the rules: see ``lorabench gate --help``."""

    strict: bool = False
    allow_missing: bool = False
    across_versions: bool = False

    def fails(self, kind: Kind | Change) -> bool:
        """Whether a case, or a number of one, that came out like this is a regression."""
        if kind == "lost":
            return not self.allow_missing
        return kind in ("not ok", "more") or (self.strict and kind in ("new", "fewer"))

    def fails_case(self, outcome: Outcome) -> bool:
        """Whether a case is a regression: a case is of its worst kind, but that may be tolerated where another of its
        numbers is not."""
        return self.fails(outcome.kind) or any(self.fails(number.change) for number in outcome.numbers)


@dataclass(frozen=True)
class Decision:
    """``outcomes`` the worst first. ``obstacles`` say why nothing is comparable and ``way_out`` what would help;
    ``remarks`` say what else differs.

    ``crossed`` are differences of hardware and versions that were compared across on demand.
    """

    verdict: Verdict
    policy: Policy
    outcomes: tuple[Outcome, ...] = ()
    obstacles: tuple[str, ...] = ()
    crossed: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    way_out: str = ""

    @property
    def exit_code(self) -> int:
        return {"passed": EXIT_OK, "failed": EXIT_REGRESSION, "not comparable": EXIT_NOT_COMPARABLE}[self.verdict]

    def of_kind(self, kind: Kind) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.kind == kind]

    @property
    def compared(self) -> int:
        """How many numbers stand beside one of the baseline."""
        return sum(number.difference is not None for outcome in self.outcomes for number in outcome.numbers)


def judge(
    baseline: Baseline | None,
    records: Sequence[Record],
    environments: Mapping[str, Environment],
    policy: Policy,
    file: str,
) -> Decision:
    """As :func:`decide`; a baseline that is missing, or promises nothing, is an obstacle. ``file`` is its name."""
    if baseline is not None and baseline.records:
        return decide(baseline, records, environments, policy)
    what = "no such baseline" if baseline is None else "the baseline has no record that ended ok"
    return Decision("not comparable", policy, obstacles=(f"{file}: {what}",), way_out="--update writes one")


def decide(
    baseline: Baseline, records: Sequence[Record], environments: Mapping[str, Environment], policy: Policy
) -> Decision:
    """Judges ``records`` by ``baseline``; ``environments`` are those that they name."""
    pairing = match(baseline.records, records)
    sources = [f"source: {base.source} in the baseline, {head.source} here" for base, head in pairing.foreign]
    crossed = _differences(pairing, baseline, records, environments)
    if sources:
        way_out = "predicted and measured bytes are never gated together: lorabench report shows them side by side"
        return Decision("not comparable", policy, obstacles=tuple(dict.fromkeys(sources)), way_out=way_out)
    if crossed and not policy.across_versions:
        way_out = "--across-versions compares all the same; --update makes these results the baseline"
        return Decision("not comparable", policy, obstacles=tuple(crossed), way_out=way_out)
    outcomes = [compare(base, head, baseline.tolerances) for base, head in pairing.pairs]
    outcomes += [Outcome(record, None) for record in pairing.lost] + [Outcome(None, record) for record in pairing.new]
    outcomes.sort(key=_order)
    failed = any(policy.fails_case(outcome) for outcome in outcomes)
    decision = Decision(
        "failed" if failed else "passed",
        policy,
        tuple(outcomes),
        crossed=tuple(crossed),
        remarks=tuple(_remarks(pairing, baseline, environments)),
    )
    if not failed and not decision.compared:
        why = "no number of the results has one in the baseline beside it"
        way_out = "gate the results of the scenarios that the baseline was made of, or write it anew with --update"
        return replace(decision, verdict="not comparable", obstacles=(why,), way_out=way_out)
    return decision


def _differences(
    pairing: Pairing, baseline: Baseline, records: Sequence[Record], environments: Mapping[str, Environment]
) -> list[str]:
    used = {
        (base.environment, head.environment): (baseline.environments[base.environment], environments[head.environment])
        for base, head in pairing.pairs
    }
    found = dict.fromkeys(text for pair in used.values() for text in differences(*pair))
    if not used and not pairing.foreign and baseline.records and records:
        # No case in common: on other hardware than the baseline's a scenario has other settings.
        found = dict.fromkeys(_disjoint(baseline.records, records))
    return list(found)


def _disjoint(base: Iterable[Record], head: Iterable[Record]) -> list[str]:
    before, after = ({f"{one.device.type} ({one.device.name})" for one in records} for records in (base, head))
    if before & after:
        return []
    return [f"device: {', '.join(sorted(before))} in the baseline, {', '.join(sorted(after))} here"]


def _remarks(pairing: Pairing, baseline: Baseline, environments: Mapping[str, Environment]) -> list[str]:
    used = dict.fromkeys((base.environment, head.environment) for base, head in pairing.pairs)
    found = [text for one, two in used for text in remarks(baseline.environments[one], environments[two])]
    idle = [
        f"tolerance for {tolerance.metric} of {tolerance.case}: no case of that name or key"
        for tolerance in baseline.tolerances
        if not any(tolerance.covers(tolerance.metric, record) for pair in pairing.pairs for record in pair)
    ]
    return list(dict.fromkeys([*found, *idle]))


def _order(outcome: Outcome) -> tuple[int, int, str, str, str]:
    record = outcome.record
    return KINDS.index(outcome.kind), -outcome.growth, record.scenario, record.name, record.device.name
