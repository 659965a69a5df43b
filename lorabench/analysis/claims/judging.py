"""Judges every claim in every scope, and corrects for how many tests one report makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lorabench.analysis.claims.catalogue import CLAIMS
from lorabench.analysis.claims.claim import Claim, Finding, Verdict
from lorabench.analysis.claims.conditions import in_order
from lorabench.analysis.claims.evidence import Evidence, Scope
from lorabench.analysis.statistics import ALPHA, holm
from lorabench.record import Record
from lorabench.results import Results

# What decides bytes and times: records of different versions are different scopes.
_VERSIONS = ("torch", "transformers", "peft", "bitsandbytes")


def judge(results: Sequence[Results], claims: Sequence[Claim] | None = None) -> list[Verdict]:
    """A verdict for each claim in each scope, scopes in the order of the files, claims in the guide's order.

    ``results`` are files as read, one each; ``claims`` all of the catalogue unless given.
    """
    verdicts = [
        Verdict(claim, evidence.scope, finding, models=_models(evidence, finding))
        for evidence in gather(results)
        for claim in (CLAIMS if claims is None else claims)
        for finding in [_of_a_prediction(claim, evidence.scope, claim.test(evidence))]
    ]
    return correct(verdicts)


def _models(evidence: Evidence, finding: Finding) -> tuple[str, ...]:
    behind = set(finding.evidence)
    records = (*evidence.records, *evidence.others)
    return tuple(sorted({str(record.case["model"]) for record in records if record.key in behind}))


def _of_a_prediction(claim: Claim, scope: Scope, finding: Finding) -> Finding:
    """``finding``, which says what lacks: of predictions not the cases, where the claim reads what none of them has."""
    if scope.source != "predicted" or claim.reads is None or finding.verdict != "not tested":
        return finding
    needed = f"a measurement: a prediction computes nothing and has no {claim.reads}"
    return replace(finding, summary=f"This claim needs {needed}.", missing=(needed,))


def gather(results: Sequence[Results]) -> list[Evidence]:
    """The records of all files by scope: device, way of knowing, versions, and whether they are committed evidence.

    Of records with one identity the last counts, of two files' too. They are in the order of their settings: of a
    run's, which is shuffled, nothing shall depend.
    """
    found: dict[Scope, list[Record]] = {}
    for file in results:
        committed = file.path is not None and file.path.resolve().parent.parent.name == "results"
        for record in file.records:
            versions = file.environments[record.environment].versions
            named = tuple((name, versions[name]) for name in _VERSIONS if name in versions)
            scope = Scope(record.device.type, record.device.name, record.source, versions=named, committed=committed)
            found.setdefault(scope, []).append(record)
    return [
        Evidence(
            replace(scope, models=tuple(sorted({record.case["model"] for record in records}))),
            tuple(record for record in records if record.status == "ok"),
            tuple(record for record in records if record.status != "ok"),
        )
        for scope, shuffled in found.items()
        for latest in [Results({}, shuffled).latest()]
        for records in [in_order(sorted(latest, key=lambda record: (record.key, record.seed, record.repeat)))]
    ]


def correct(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """After Holm's correction over all verdicts that rest on a test's p value: what it undoes is inconclusive.

    A claim that was inconclusive before counts as a test that shows nothing, and has no p value after: where some of
    its comparisons decide and others do not, the p of those would look like the claim's.
    """
    tested = [index for index, verdict in enumerate(verdicts) if verdict.finding.p_value is not None]
    adjusted = holm([_deciding(verdicts[index].finding) for index in tested])
    corrected = list(verdicts)
    for index, p_value in zip(tested, adjusted, strict=True):
        finding = verdicts[index].finding
        if finding.verdict == "inconclusive":
            corrected[index] = replace(verdicts[index], finding=replace(finding, p_value=None))
            continue
        changed = replace(finding, p_value=p_value)
        if p_value > ALPHA:
            reason = f"p = {p_value:.2g} after Holm's correction over {len(tested)} tests"
            # Where it holds and where it does not is no longer shown.
            changed = replace(changed, verdict="inconclusive", summary=f"{finding.summary} ({reason})", condition=None)
        corrected[index] = replace(verdicts[index], finding=changed)
    return corrected


def _deciding(finding: Finding) -> float:
    assert finding.p_value is not None
    return 1.0 if finding.verdict == "inconclusive" else finding.p_value
