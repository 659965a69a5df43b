"""Whether claims about bytes come out the same on predicted records as on measured ones of the same cases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, Literal

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
"""Claims that no record without memory can decide."""
PARTLY_BYTES = frozenset(
    {
        *("bias-modes", "int8-preparation", "cache-conflicts-with-checkpointing", "merged-adds-none"),
        *("adapters-live-side-by-side", "merge-and-unload"),
    }
)
"""Claims of whose findings bytes are a part, beside losses, outputs or times."""

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

    @property
    def other_rows(self) -> int:
        """In how many rows of the claim's table a number is another on predicted bytes.

        A verdict may rest on more than bytes, and be the same whatever these are. Its numbers are not.
        """
        return sum(ours != theirs for ours, theirs in zip_longest(self.measured.rows, self.predicted.rows))

    @property
    def same_words(self) -> bool:
        """Whether the summary, with all its numbers, is the same."""
        return self.measured.summary == self.predicted.summary


def agreements(evidence: Sequence[Evidence], claims: Iterable[Claim]) -> list[Agreement]:
    """Each of ``claims`` that is about bytes, in each scope of measured records of which some cases were predicted.

    Both sides have the same records: those that ended ``ok`` and have the case, card and seed of one on the other side.
    Of several predictions of a case the last counts, whatever the versions. Predictions have no times, losses and
    outputs; where a claim needs them beside the bytes, both sides have the measured ones. What bytes a lifecycle's
    parts took is never the measured one's on the predicted side: where the prediction lacks it, both sides do.
    """
    predicted = {
        identity(record): record for one in evidence if one.scope.source == "predicted" for record in one.records
    }
    about_bytes = [claim for claim in claims if claim.id in BYTE_CLAIMS | PARTLY_BYTES]
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
        pairs = [(record, predicted[identity(record)]) for record in one.records if identity(record) in predicted]
        if pairs:
            real = tuple(_without_what_lacks(*pair) for pair in pairs)
            told = tuple(_completed(*pair) for pair in pairs)
            scope = replace(one.scope, device_type="fake", source="predicted")
            found.append((one.scope, Evidence(one.scope, real), Evidence(scope, told)))
    return found


_OF_TIMES = ("turn_steps", "timing_stages_s", "launch_bound", "warnings")
"""Observations without which times are read as something else: how long a turn is, which arms share a process, and
whether another process had the GPU, too."""
_OF_VALUES = ("losses", "losses_from_step", "training", "output_difference")
"""Observations of what a device computed."""
_LIFE = "lifecycle"
LIFE_BYTES: Mapping[str, frozenset[str]] = {
    "adapters": frozenset({"count", "bytes_each", "expected_bytes", "refused"}),
    "unload": frozenset({"lora_modules_left", "bytes_over_base"}),
    "delete": frozenset({"adapters_left", "bytes_back", "refused"}),
}
"""Of the parts of a lifecycle that take bytes what a prediction tells; all else in them are outputs and times."""


def _without_what_lacks(measured: Record, predicted: Record) -> Record:
    """``measured`` without the parts of a lifecycle whose bytes ``predicted`` does not tell: an earlier version's."""
    life, told = (_life(record) for record in (measured, predicted))
    lacking = LIFE_BYTES.keys() - told.keys()
    if not lacking & life.keys():
        return measured
    kept = {name: part for name, part in life.items() if name not in lacking}
    return replace(measured, observations={**measured.observations, _LIFE: kept})


def _completed(measured: Record, predicted: Record) -> Record:
    """``predicted`` with what it cannot have, and lined up like ``measured``.

    Of one key, settings that do not apply may differ by scenario.
    """
    taken = {name: measured.observations[name] for name in _OF_TIMES + _OF_VALUES if name in measured.observations}
    observations = {**predicted.observations, **taken}
    if life := _completed_life(_life(_without_what_lacks(measured, predicted)), _life(predicted)):
        observations[_LIFE] = life
    return replace(
        predicted,
        name=measured.name,
        scenario=measured.scenario,
        case=measured.case,
        latency=measured.latency,
        tokens_per_s=measured.tokens_per_s,
        observations=observations,
        group=measured.group,
        repeat=measured.repeat,
    )


def _completed_life(measured: Mapping[str, Any], predicted: Mapping[str, Any]) -> dict[str, Any]:
    completed = dict(measured)
    for name, told_bytes in LIFE_BYTES.items():
        if name in predicted:
            values = {key: value for key, value in _part(measured, name).items() if key not in told_bytes}
            completed[name] = {**values, **_part(predicted, name)}
    return completed


def _life(record: Record) -> Mapping[str, Any]:
    return _part(record.observations, _LIFE)


def _part(observations: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Empty where it is missing, or no mapping: a results file may hold anything there."""
    found = observations.get(name)
    return found if isinstance(found, Mapping) else {}
