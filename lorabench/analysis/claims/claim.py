"""What a claim is, and what comes of testing it. Plain data; the tests themselves are in the families' modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from lorabench.analysis.claims.evidence import Evidence, Scope

Judgement = Literal["supported", "refuted", "conditional", "inconclusive", "not tested"]


@dataclass(frozen=True)
class Figure:
    """How the report draws a claim's table: ``y`` over ``x``, a series for each value of ``series``.

    All three name columns of the finding's rows. ``low`` and ``high`` are columns of an interval's ends; ``reference``
    is a level that the claim speaks of (1 for a ratio, say), drawn as a line.
    """

    kind: Literal["bars", "lines", "points"]
    x: str
    y: str
    series: str | None = None
    low: str | None = None
    high: str | None = None
    reference: float | None = None
    x_label: str = ""
    y_label: str = ""
    log_x: bool = False


@dataclass(frozen=True)
class Finding:
    """What a claim's test found in one scope.

    ``effect`` and ``ci95`` are in the claim's ``unit``; ``n`` counts the samples or cases behind them. ``summary`` says
    the finding in a sentence that a reader can check, numbers and units in it. ``condition`` names what a
    ``conditional`` claim holds under. ``evidence`` holds keys of records, ``missing`` says in words which cases the
    records lack. ``rows`` is the table behind the finding, and ``drawn`` names the series of it that the figure draws,
    where those are not all. ``p_value`` is that of the test that decides, where one
    does; Holm's correction runs over those of a whole report.
    """

    verdict: Judgement
    summary: str
    effect: float | None = None
    ci95: tuple[float, float] | None = None
    n: int | None = None
    condition: str | None = None
    evidence: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    rows: tuple[Mapping[str, Any], ...] = ()
    drawn: tuple[str, ...] = ()
    p_value: float | None = None


def not_tested(*missing: str, evidence: tuple[str, ...] = ()) -> Finding:
    """The finding of a claim whose cases the records lack; ``missing`` says which, in words."""
    return Finding("not tested", f"The records lack {'; '.join(missing)}.", evidence=evidence, missing=missing)


@dataclass(frozen=True)
class Claim:
    """One sentence of advice made testable.

    ``hypothesis`` is what ``supported`` means. ``threshold`` is the number that decides, in ``unit``, and
    ``threshold_text`` says how. ``method`` and ``refuted_by`` are told on the claim's card. ``then`` and ``now`` are
    the guide's call and today's where the guide's is gone. ``cause`` names what in the libraries' code explains a
    verdict that surprises. ``caveat`` says, by device type, what only another device can show. ``reads`` names what
    the test reads and no prediction has, whatever its cases: losses, say.
    """

    id: str
    chapter: str
    title: str
    hypothesis: str
    method: str
    refuted_by: str
    threshold: float | None
    threshold_text: str
    unit: str
    test: Callable[[Evidence], Finding]
    figure: Figure | None = None
    then: str | None = None
    now: str | None = None
    cause: str | None = None
    caveat: Mapping[str, str] | None = None
    reads: str | None = None


@dataclass(frozen=True)
class Verdict:
    """A claim judged in one scope, after Holm's correction: what ``lorabench claims`` prints a line of.

    ``models`` are those of its evidence, in alphabetical order: the scope's records may be of others, too.
    """

    claim: Claim
    scope: Scope
    finding: Finding
    models: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The fields that DESIGN names, as plain data."""
        finding, claim = self.finding, self.claim
        return {
            "id": claim.id,
            "verdict": finding.verdict,
            "effect": finding.effect,
            "ci95": None if finding.ci95 is None else list(finding.ci95),
            "n": finding.n,
            "threshold": claim.threshold,
            "unit": claim.unit,
            "scope": str(replace(self.scope, models=self.models)),
            "condition": finding.condition,
            "summary": finding.summary,
            "evidence": list(finding.evidence),
            "missing": list(finding.missing),
        }
