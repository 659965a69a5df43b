"""Whether claims about bytes come out the same on predicted records as on measured ones of the same cases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lorabench.analysis.claims.claim import Claim, Finding
from lorabench.analysis.claims.evidence import Evidence, Scope
from lorabench.analysis.predicted import identity
from lorabench.record import Record

BYTE_CLAIMS = frozenset(
    {
        *("rank-sets-width", "dropout-rate", "target-modules", "int8-cuts-static", "static-follows-parameters"),
        *("dynamic-follows-batch", "checkpointing-cuts-dynamic"),
    }
)
"""Claims that no record without memory can decide. Those on lifecycles are not among them: they need outputs, too."""

Outcome = Literal["agrees", "differs in its condition", "differs", "not tested"]


@dataclass(frozen=True)
class Agreement:
    """One claim on the cases that ``scope``'s measured records and the predicted ones have in common.

    ``cases`` counts those that either finding rests on. ``measured`` and ``predicted`` are findings of the shared cases
    alone, before Holm's correction; that of all measured records may be another.
    """

    claim: Claim
    scope: Scope
    cases: int
    measured: Finding
    predicted: Finding

    @property
    def outcome(self) -> Outcome:
        """``not tested`` where neither side has the cases that the claim needs."""
        if self.measured.verdict != self.predicted.verdict:
            return "differs"
        if self.measured.verdict == "not tested":
            return "not tested"
        return "agrees" if self.measured.condition == self.predicted.condition else "differs in its condition"


def agreements(evidence: Sequence[Evidence], claims: Iterable[Claim]) -> list[Agreement]:
    """Each of ``claims`` that is about bytes, in each scope of measured records of which some cases were predicted.

    Both sides have the same records: those that ended ``ok`` and have the case, card and seed of one on the other side.
    Of several predictions of a case the last counts, whatever the versions. Predictions have no times; where a claim
    needs them beside the bytes, both sides have the measured ones.
    """
    predicted = {
        identity(record): record for one in evidence if one.scope.source == "predicted" for record in one.records
    }
    about_bytes = [claim for claim in claims if claim.id in BYTE_CLAIMS]
    return [
        _agreement(claim, scope, real, told)
        for scope, real, told in _both_sides(evidence, predicted)
        for claim in about_bytes
    ]


def _agreement(claim: Claim, scope: Scope, real: Evidence, told: Evidence) -> Agreement:
    measured, predicted = claim.test(real), claim.test(told)
    return Agreement(claim, scope, len({*measured.evidence, *predicted.evidence}), measured, predicted)


def _both_sides(
    evidence: Sequence[Evidence], predicted: dict[tuple[str, str, int], Record]
) -> list[tuple[Scope, Evidence, Evidence]]:
    """Of each scope of a GPU's measured records: the scope, those that were predicted too, and the predictions."""
    found = []
    for one in evidence:
        if one.scope.source != "measured" or one.scope.device_type != "cuda":
            continue
        real = tuple(record for record in one.records if identity(record) in predicted)
        if real:
            told = tuple(_with_times_of(record, predicted[identity(record)]) for record in real)
            scope = replace(one.scope, device_type="fake", source="predicted")
            found.append((one.scope, Evidence(one.scope, real), Evidence(scope, told)))
    return found


_OF_TIMES = ("turn_steps", "timing_stages_s", "launch_bound", "warnings")
"""Observations without which times are read as something else: how long a turn is, which arms share a process, and
whether another process had the GPU, too."""


def _with_times_of(measured: Record, predicted: Record) -> Record:
    """``predicted`` lined up like ``measured``: of one key, settings that do not apply may differ by scenario."""
    of_times = {name: measured.observations[name] for name in _OF_TIMES if name in measured.observations}
    return replace(
        predicted,
        case=measured.case,
        latency=measured.latency,
        tokens_per_s=measured.tokens_per_s,
        observations={**predicted.observations, **of_times},
        group=measured.group,
        repeat=measured.repeat,
    )
