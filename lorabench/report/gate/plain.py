"""The decision as plain data for ``--json``: an object for each case that is not equal, then one for the whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from lorabench.analysis.gate.comparison import Number, Outcome
from lorabench.analysis.gate.decision import KINDS, Decision


def json_lines(decision: Decision) -> Iterator[str]:
    """One object a line, the worst case first."""
    yield from case_lines(decision)
    yield _line(
        {
            "type": "gate",
            "verdict": decision.verdict,
            "exit_code": decision.exit_code,
            "cases": {kind: len(decision.of_kind(kind)) for kind in KINDS},
            "compared_numbers": decision.compared,
            "obstacles": decision.obstacles,
            "crossed": decision.crossed,
            "remarks": decision.remarks,
        }
    )


def case_lines(decision: Decision) -> Iterator[str]:
    """The cases alone."""
    for outcome in decision.outcomes:
        if outcome.kind != "equal" or outcome.times:
            yield _line(_case(outcome, decision))


def _line(data: dict[str, Any]) -> str:
    # A workflow's runner obeys ##[command] wherever it stands; these signs come in strings only.
    return json.dumps(data).replace("##", "#\\u0023")


def _case(outcome: Outcome, decision: Decision) -> dict[str, Any]:
    record, head = outcome.record, outcome.head
    return {
        "type": "case",
        "kind": outcome.kind,
        "fails": decision.policy.fails_case(outcome),
        "key": record.key,
        "name": record.name,
        "scenario": record.scenario,
        "device": {"type": record.device.type, "name": record.device.name},
        "source": record.source,
        "seed": record.seed,
        "repeat": record.repeat,
        "status": None if head is None else head.status,
        "error": head and head.error and {"type": head.error.type, "message": head.error.message},
        "numbers": [_number(number) for number in outcome.numbers if number.change != "equal"],
        "not_judged": [_number(number) for number in outcome.untold if number.change != "equal"],
        "categories": {one.name: one.difference for one in outcome.categories},
        "modules": {one.name: one.difference for one in outcome.modules},
        "proof": outcome.proof,
        "times": [{"phase": one.phase, "base_s": one.base_s, "head_s": one.head_s} for one in outcome.times],
    }


def _number(number: Number) -> dict[str, Any]:
    return {
        "metric": number.metric,
        "change": number.change,
        "base_bytes": number.base,
        "head_bytes": number.head,
        "difference_bytes": number.difference,
        "tolerance_bytes": number.tolerance.n_bytes if number.tolerance else 0,
    }
