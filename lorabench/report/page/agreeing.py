"""Whether verdicts on bytes are the same on predicted records, as cards, tables and files say it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from lorabench.analysis.agreement import Agreement, Outcome
from lorabench.analysis.claims.claim import Verdict
from lorabench.report.page.material import Material, by_device
from lorabench.report.page.quantities import Table, number, table

HEADINGS: dict[Outcome, str] = {
    "agrees": "Predicted agrees.",
    "differs in its condition": "Predicted differs in the condition.",
    "differs": "Predicted differs.",
    "not tested": "",
}
_MOST_ROWS = 200
_MARKS = ".,;:()"


@dataclass(frozen=True)
class Agreed:
    """The claims that could be judged on records of ``device``, which is None where the report has no other."""

    device: str | None
    table: Table


def told(verdict: Verdict, agreements: Sequence[Agreement]) -> tuple[str, str] | None:
    """A heading and a sentence for the card of ``verdict``; None where its scope's cases were not predicted.

    ``agreements`` are those of all claims and scopes.
    """
    found = next(
        (one for one in agreements if one.claim.id == verdict.claim.id and one.scope == verdict.scope),
        None,
    )
    if found is None or found.outcome == "not tested":
        return None
    return HEADINGS[found.outcome], _sentence(found, verdict)


def agreed(material: Material) -> tuple[Agreed, ...]:
    """One for each device of which a claim could be judged."""
    return tuple(
        Agreed(device, found)
        for device, part in by_device(material)
        if (found := agreement_table(part.agreements)) is not None
    )


def agreement_table(agreements: Sequence[Agreement]) -> Table | None:
    """A row for each claim and scope that could be judged, all of one device; None where none could."""
    rows = [
        {
            "claim": one.claim.title,
            "prediction": one.outcome,
            "measured": one.measured.verdict,
            "predicted": one.predicted.verdict,
            "numbers on the card": _numbers(one),
            "cases": one.cases,
        }
        for one in agreements
        if one.outcome != "not tested"
    ]
    return table(rows, _MOST_ROWS) if rows else None


def _numbers(one: Agreement) -> str:
    if one.same_words and not one.other_rows:
        return "all the same"
    others = f"others in {one.other_rows} of {len(one.measured.rows)} rows" if one.other_rows else ""
    return " and ".join(filter(None, ("" if one.same_words else "others in the summary", others)))


def _card(one: Agreement) -> str:
    """Of a card's numbers, which are the same."""
    rows = f"{one.other_rows} of the table's {len(one.measured.rows)} rows have others"
    if one.same_words:
        return f"{rows}, the summary has none" if one.other_rows else "every number here is the same, too"
    return f"the summary has {_others(one)}" + (f", and {rows}" if one.other_rows else "")


def _others(one: Agreement) -> str:
    """What the summary says otherwise on predicted bytes: ``41,472 for 44,544``."""
    ours, theirs = (finding.summary.split() for finding in (one.measured, one.predicted))
    apart = [
        f"{' '.join(theirs[start:end]).strip(_MARKS)} for {' '.join(ours[first:last]).strip(_MARKS)}"
        for kind, first, last, start, end in SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes()
        if kind != "equal"
    ]
    return ", ".join(apart)


def _is_corrected(one: Agreement, verdict: Verdict) -> bool:
    """Whether nothing but Holm's correction, which is the same on either side, made the verdict another."""
    same_cases = set(one.measured.evidence) == set(verdict.finding.evidence)
    return same_cases and one.measured.p_value is not None and one.measured.p_value == one.predicted.p_value


def _sentence(one: Agreement, verdict: Verdict) -> str:
    cases = f"the {number(one.cases)} case{'' if one.cases == 1 else 's'} that were predicted too"
    if one.outcome == "agrees" and (one.measured.verdict == verdict.finding.verdict or _is_corrected(one, verdict)):
        return f"With predicted bytes in place of the measured ones, {cases} give the same verdict; {_card(one)}."
    if one.outcome == "differs in its condition":
        return (
            f"On {cases} both are {one.measured.verdict}, measured {one.measured.condition or 'without a condition'}; "
            f"predicted {one.predicted.condition or 'without a condition'}."
        )
    return f"On {cases} the verdict is {one.measured.verdict} as measured and {one.predicted.verdict} as predicted."
