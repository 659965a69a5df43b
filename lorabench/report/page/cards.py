"""Verdicts as the page shows them: by chapter at a glance, then a card a claim."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lorabench.analysis.agreement import Agreement
from lorabench.analysis.claims.claim import Claim, Judgement, Verdict
from lorabench.report.page.agreeing import told
from lorabench.report.page.material import Entry, Material, by_device, tagged
from lorabench.report.page.quantities import Table, interval, number, quantity, split_unit, table
from lorabench.report.page.rerun import Ran, Rerun, ran, rerun

JUDGEMENTS: tuple[Judgement, ...] = ("supported", "conditional", "refuted", "inconclusive", "not tested")
MEANINGS: dict[Judgement, str] = {
    "supported": "the numbers bear the claim out",
    "conditional": "holds under a named condition and fails outside it",
    "refuted": "the numbers contradict the claim",
    "inconclusive": "the interval spans the threshold: these samples cannot tell",
    "not tested": "the records lack a case that the test needs",
}
MOST_ROWS = 120
"""Rows of a claim's table that a card shows."""
_CHAPTERS = {
    "2": "Choosing the settings",
    "3": "Memory, 8 bit and checkpointing",
    "4": "What happens inside",
    "5": "Saving and restoring",
    "6": "Latency at inference",
    "7": "Several adapters on one base",
}
_DEVICES = {"cuda": 0, "cpu": 1, "fake": 2}


@dataclass(frozen=True)
class Scoped:
    """A verdict of one scope, in words. ``figure`` names its files, where it has one.

    ``predicted`` says, in a heading and a sentence, whether predicted bytes lead to the same verdict. ``rerun`` says
    how a reader runs its cases again.
    """

    verdict: Verdict
    figure: str | None
    table: Table | None
    predicted: tuple[str, str] | None = None
    rerun: Rerun | None = None

    @property
    def judgement(self) -> Judgement:
        return self.verdict.finding.verdict

    @property
    def place(self) -> str:
        scope = self.verdict.scope
        return tagged(scope.device_name, scope.source == "predicted")

    @property
    def models(self) -> tuple[str, ...]:
        """Those of the evidence; none of a verdict that is not there."""
        return () if self.judgement == "not tested" else self.verdict.models

    @property
    def where(self) -> str:
        """The place, and whether the evidence is committed: for text, which has no tags beside it."""
        scope = self.verdict.scope
        return tagged(scope.device_name, scope.source == "predicted", scope.committed)

    @property
    def effect(self) -> str | None:
        finding = self.verdict.finding
        return None if finding.effect is None else quantity(finding.effect, split_unit(self.verdict.claim.unit)[0])

    @property
    def measured(self) -> str:
        """What the effect is a number of, where its unit does not say it."""
        return split_unit(self.verdict.claim.unit)[1]

    @property
    def brief(self) -> str | None:
        """The effect in three digits, where it can be understood without being told what is measured."""
        effect, (sign, measured) = self.verdict.finding.effect, split_unit(self.verdict.claim.unit)
        if effect is None or (measured and not sign and " / " not in measured):
            return None
        return quantity(effect, sign or "ratio", 3)

    @property
    def ci95(self) -> str | None:
        finding = self.verdict.finding
        return None if finding.ci95 is None else interval(finding.ci95, split_unit(self.verdict.claim.unit)[0])

    @property
    def n(self) -> str | None:
        return None if self.verdict.finding.n is None else number(self.verdict.finding.n)

    @property
    def p_value(self) -> str | None:
        p_value = self.verdict.finding.p_value
        if p_value is None:
            return None
        return "< 0.0001" if p_value < 1e-4 else number(p_value, 2)

    @property
    def missing(self) -> str:
        """The cases that the records lack, where the summary does not name them already."""
        finding = self.verdict.finding
        return "; ".join(one for one in finding.missing if one not in finding.summary)

    @property
    def caveat(self) -> str | None:
        """What only another device can show."""
        return (self.verdict.claim.caveat or {}).get(self.verdict.scope.device_type)


@dataclass(frozen=True)
class Card:
    """A claim with its verdicts: ``primary`` stands in the head, ``others`` below it."""

    claim: Claim
    primary: Scoped
    others: tuple[Scoped, ...]

    @property
    def evidence(self) -> tuple[str, ...]:
        """Keys of the records behind the verdicts of all scopes."""
        found = (key for scoped in (self.primary, *self.others) for key in scoped.verdict.finding.evidence)
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class Chapter:
    number: str
    title: str
    cards: tuple[Card, ...]


@dataclass(frozen=True)
class Glance:
    """The claims in short, as they were judged on ``device``, which is None where the report has no other."""

    device: str | None
    cards: tuple[Card, ...]

    @property
    def chapters(self) -> tuple[Chapter, ...]:
        return chapters(self.cards)

    @property
    def tells_predicted(self) -> bool:
        """Whether predicted verdicts must be marked: where the report has measured ones, too, or other devices."""
        return self.device is not None or any(card.primary.verdict.scope.source != "predicted" for card in self.cards)

    @property
    def counts(self) -> Mapping[Judgement, int]:
        return counts(self.cards)


def cards(
    verdicts: Iterable[Verdict], agreements: Sequence[Agreement] = (), entries: Iterable[Entry] = ()
) -> tuple[Card, ...]:
    """A card for each claim, in the order in which the claims first come up; ``entries`` are what was judged."""
    by_claim: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        by_claim.setdefault(verdict.claim.id, []).append(verdict)
    known = ran(entries)
    return tuple(_card(sorted(members, key=_precedence), agreements, known) for members in by_claim.values())


def glances(material: Material, made: tuple[Card, ...]) -> tuple[Glance, ...]:
    """One for each device with verdicts, in which no other stands in for what is untested; ``made`` are all cards."""
    return tuple(
        Glance(device, made if device is None else cards(part.verdicts))
        for device, part in by_device(material)
        if part.verdicts
    )


def chapters(members: Sequence[Card]) -> tuple[Chapter, ...]:
    """The cards by the chapter that gives the advice last and in most detail."""
    by_number: dict[str, list[Card]] = {}
    for card in members:
        by_number.setdefault(_chapter(card), []).append(card)
    return tuple(Chapter(number, _CHAPTERS.get(number, ""), tuple(group)) for number, group in by_number.items())


def counts(members: Iterable[Card]) -> dict[Judgement, int]:
    """How many claims came out how, by their primary verdicts; all judgements, in order."""
    seen = Counter(card.primary.judgement for card in members)
    return {judgement: seen[judgement] for judgement in JUDGEMENTS}


def _card(verdicts: Sequence[Verdict], agreements: Sequence[Agreement], ran: Ran) -> Card:
    claim = verdicts[0].claim
    scoped = [_scoped(verdict, number, agreements, ran) for number, verdict in enumerate(verdicts)]
    return Card(claim, scoped[0], tuple(scoped[1:]))


def _scoped(verdict: Verdict, number: int, agreements: Sequence[Agreement], ran: Ran) -> Scoped:
    rows = verdict.finding.rows
    name = f"claim-{verdict.claim.id}" + (f"-{number + 1}" if number else "")
    drawn = verdict.claim.figure is not None and any(row.get(verdict.claim.figure.y) is not None for row in rows)
    return Scoped(
        verdict,
        name if drawn else None,
        table(rows, MOST_ROWS) if rows else None,
        told(verdict, agreements),
        rerun(verdict, ran),
    )


def _precedence(verdict: Verdict) -> tuple[bool, bool, bool, int]:
    """What was tested before what was not; then what was made here, what was measured, and a GPU.

    Of two devices alike the first comes first, in the order of the files.
    """
    scope = verdict.scope
    untested = verdict.finding.verdict == "not tested"
    return untested, scope.committed, scope.source == "predicted", _DEVICES[scope.device_type]


def _chapter(card: Card) -> str:
    return card.claim.chapter.rpartition(",")[2].strip().partition(".")[0]
