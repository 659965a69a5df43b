"""Claims about bytes on the committed predictions and on the committed records of two GPUs: the verdicts agree."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lorabench.analysis.agreement import BYTE_CLAIMS, LIFE_BYTES, PARTLY_BYTES, Agreement, agreements
from lorabench.analysis.claims.catalogue import CLAIMS
from lorabench.analysis.claims.evidence import Evidence
from lorabench.analysis.claims.judging import gather, judge
from lorabench.analysis.predicted import compare
from lorabench.record import Record
from lorabench.results import read_results

RESULTS = Path(__file__).parents[2] / "results"
MEASURED = {"h100": ("scenarios", "lifecycle"), "h200": ("scenarios", "lifecycle", "large", "learning")}
KNOWN_TO_DIFFER: frozenset[str] = frozenset()
"""Claims with a cause that is written in the README.md beside the results."""


@pytest.fixture(scope="module", params=MEASURED)
def evidence(request: pytest.FixtureRequest) -> list[Evidence]:
    names = (*MEASURED[request.param], "predicted")
    return gather([read_results(RESULTS / request.param / f"{name}.jsonl") for name in names])


@pytest.fixture(scope="module")
def found(evidence) -> dict[str, Agreement]:
    return {one.claim.id: one for one in agreements(evidence, CLAIMS)}


@pytest.mark.parametrize("name", sorted(BYTE_CLAIMS | PARTLY_BYTES))
def test_a_claim_about_bytes_comes_out_the_same(evidence, found, name):
    one = found[name]
    [measured] = [one for one in evidence if one.scope.source == "measured"]
    if name == "int8-preparation" and one.claim.test(measured).verdict == "not tested":
        assert one.outcome == "not tested"
        return
    assert one.outcome == ("differs" if name in KNOWN_TO_DIFFER else "agrees"), (one.measured, one.predicted)
    # On all cases that it rests on: each was predicted.
    assert one.cases == len(one.claim.test(measured).evidence) > 2


def test_with_wrong_bytes_no_claim_about_them_comes_out_the_same(evidence):
    """Else "agrees" would say nothing: each rests on bytes in its verdict or tells them."""
    drawn = random.Random(0)

    def wrong(value: Any) -> Any:
        if isinstance(value, list):
            return [wrong(one) for one in value]
        return drawn.randint(2, 9) * value + 1 if isinstance(value, int) and not isinstance(value, bool) else value

    def mistaken(record: Record) -> Record:
        observations = dict(record.observations)
        if life := observations.get("lifecycle"):
            observations["lifecycle"] = {
                name: {key: wrong(value) for key, value in part.items()} for name, part in life.items()
            }
        assert record.memory is not None
        memory = replace(
            record.memory,
            static_bytes=wrong(record.memory.static_bytes),
            dynamic_bytes=wrong(record.memory.dynamic_bytes),
            phases={
                name: replace(phase, peak_bytes=wrong(phase.peak_bytes), after_bytes=wrong(phase.after_bytes))
                for name, phase in record.memory.phases.items()
            },
        )
        return replace(record, memory=memory, observations=observations)

    sides = [
        replace(one, records=tuple(map(mistaken, one.records))) if one.scope.source == "predicted" else one
        for one in evidence
    ]
    judged = [one for one in agreements(sides, CLAIMS) if one.outcome != "not tested"]
    assert len(judged) >= len(BYTE_CLAIMS | PARTLY_BYTES) - 1
    assert [one.claim.id for one in judged if one.outcome == "agrees" and one.same_words and not one.other_rows] == []


def test_all_numbers_are_the_same_but_those_of_outliers(found):
    """Of values, which no prediction has: columns that are multiplied apart, and kept."""
    others = {name for name, one in found.items() if one.other_rows or not one.same_words}
    assert others <= {"checkpointing-cuts-dynamic", "int8-cuts-static", "merge-and-unload"}
    for name in others:
        rows = zip(found[name].measured.rows, found[name].predicted.rows, strict=True)
        off = [(ours, theirs) for ours, theirs in rows if ours != theirs]
        columns = ("outlier share", "largest outlier share")
        assert all(any(map(ours.get, columns)) or ours.get("bytes over base") == 44_544 for ours, _ in off), name


def without_bytes(record: Record) -> Record:
    observations = dict(record.observations)
    if "lifecycle" in observations:
        observations["lifecycle"] = {
            name: {key: value for key, value in part.items() if key not in LIFE_BYTES.get(name, ())}
            if isinstance(part, dict)
            else part
            for name, part in observations["lifecycle"].items()
        }
    return replace(record, memory=None, observations=observations)


def test_claims_about_bytes_are_those_whose_findings_change_without(evidence):
    [measured] = [one for one in evidence if one.scope.source == "measured"]
    blind = Evidence(measured.scope, tuple(map(without_bytes, measured.records)))
    seen = replace(measured, others=())
    changed = {claim.id: claim.test(blind) for claim in CLAIMS if claim.test(seen) != claim.test(blind)}
    lacking = set() if "int8-preparation" in changed else {"int8-preparation"}
    assert changed.keys() | lacking == BYTE_CLAIMS | PARTLY_BYTES
    assert all(changed[name].verdict == "not tested" for name in BYTE_CLAIMS)


def test_what_a_lifecycles_parts_take_is_predicted_to_the_byte(evidence):
    """But for the outlier columns that bitsandbytes keeps of values, which no prediction has."""
    compared = {
        one.measured.key: one
        for one in compare(record for one in evidence for record in one.records)
        if one.measured.case["task"] == "lifecycle"
    }
    assert len(compared) in (10, 22)
    off = []
    for one in compared.values():
        measured, predicted = (record.observations["lifecycle"] for record in (one.measured, one.predicted))
        assert predicted.keys() == LIFE_BYTES.keys()
        for name, part in predicted.items():
            real = {key: value for key, value in measured[name].items() if key in LIFE_BYTES[name]}
            if real != part:
                off.append((one.measured.case["quantization"], one.measured.case["int8_threshold"], real, part))
    of_outliers = ("int8", 6.0, *({"lora_modules_left": 0, "bytes_over_base": over} for over in (44_544, 41_472)))
    assert off == ([of_outliers] if len(compared) == 22 else [])


def test_findings_do_not_depend_on_the_order_in_which_cases_ran():
    """A run shuffles its cases. Where one case ran more than once, the last of its records counts, and stays last."""
    file = read_results(*(RESULTS / "h200" / f"{name}.jsonl" for name in MEASURED["h200"]))
    ranks: dict[tuple[str, int, int], float] = {}
    drawn = random.Random(0)
    for record in file.records:
        ranks.setdefault((record.key, record.seed, record.repeat), drawn.random())
    shuffled = sorted(file.records, key=lambda record: ranks[record.key, record.seed, record.repeat])
    assert shuffled != file.records
    as_run, otherwise = (judge([replace(file, records=records)]) for records in (file.records, shuffled))
    assert [one.finding for one in as_run] == [one.finding for one in otherwise]
