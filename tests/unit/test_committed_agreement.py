"""Claims about bytes on the committed predictions and on the committed records of two GPUs: the verdicts agree."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from lorabench.analysis.agreement import BYTE_CLAIMS, Agreement, agreements
from lorabench.analysis.claims.catalogue import CLAIMS
from lorabench.analysis.claims.evidence import Evidence
from lorabench.analysis.claims.judging import gather, judge
from lorabench.analysis.predicted import compare
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


@pytest.mark.parametrize("name", sorted(BYTE_CLAIMS))
def test_a_claim_about_bytes_comes_out_the_same(evidence, found, name):
    one = found[name]
    assert one.outcome == ("differs" if name in KNOWN_TO_DIFFER else "agrees"), (one.measured, one.predicted)
    # On all cases that it rests on: each was predicted.
    [measured] = [one for one in evidence if one.scope.source == "measured"]
    assert one.cases == len(one.claim.test(measured).evidence) > 2


def test_claims_about_bytes_are_those_that_nothing_but_memory_can_decide(evidence):
    [measured] = [one for one in evidence if one.scope.source == "measured"]
    blind = Evidence(measured.scope, tuple(replace(record, memory=None) for record in measured.records))
    need_memory = {
        claim.id
        for claim in CLAIMS
        if claim.test(measured).verdict != "not tested" and claim.test(blind).verdict == "not tested"
    }
    assert need_memory == BYTE_CLAIMS


def test_cases_of_claims_with_a_part_in_bytes_are_in_the_file_that_the_report_names(evidence):
    """What the report says of them beneath the claims that are judged on either side."""
    [measured] = [one for one in evidence if one.scope.source == "measured"]
    compared = {one.measured.key for one in compare(record for one in evidence for record in one.records)}
    by_id = {claim.id: claim for claim in CLAIMS}
    for name in ("adapters-live-side-by-side", "merge-and-unload", "cache-conflicts-with-checkpointing"):
        assert compared & set(by_id[name].test(measured).evidence), name
        assert by_id[name].reads is not None
        assert "outputs" in by_id[name].reads
    prepared = [one.key for one in measured.records if one.case["kbit_preparation"]]
    assert compared & set(prepared)
    assert by_id["int8-preparation"].reads == "losses"


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
