from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lorabench.analysis.claims.catalogue import CLAIMS
from lorabench.analysis.claims.claim import Claim, Finding, Verdict, not_tested
from lorabench.analysis.claims.evidence import Scope, keys
from lorabench.analysis.claims.judging import correct, gather, judge
from lorabench.record import RecordDevice
from lorabench.results import Results, read_results

RESULTS = Path(__file__).parents[4] / "results"
SCOPE = Scope("cpu", "Imaginary CPU", "measured")


def claim(name="some-claim", test=lambda evidence: Finding("supported", "It is so.", n=len(evidence.records))):
    return Claim(
        id=name,
        chapter="1",
        title="Some claim",
        hypothesis="It is so.",
        method="Look.",
        refuted_by="It is not so.",
        threshold=1.0,
        threshold_text="One.",
        unit="x",
        test=test,
    )


def verdict(judgement, p_value=None):
    return Verdict(claim(), SCOPE, Finding(judgement, "So.", p_value=p_value))


@pytest.fixture
def results(environment):
    def of(*records, path=None, versions=None):
        where = replace(environment, versions={**environment.versions, **(versions or {})})
        return Results({environment.id: where}, list(records), path=path)

    return of


def test_devices_and_predictions_are_scopes_of_their_own(make_record, results):
    cpu = make_record()
    cuda = make_record(device=RecordDevice("cuda", "Imaginary GPU"))
    predicted = make_record(device=RecordDevice("fake", "Imaginary GPU"), source="predicted")
    found = gather([results(cpu, cuda, predicted)])
    assert [(one.scope.device_type, one.scope.source) for one in found] == [
        ("cpu", "measured"),
        ("cuda", "measured"),
        ("fake", "predicted"),
    ]
    assert [len(one.records) for one in found] == [1, 1, 1]
    assert str(found[2].scope) == "predicted for Imaginary GPU; llama-tiny"


def test_what_no_prediction_has_is_said_in_place_of_the_cases(make_record, results):
    """The cases may be there: it is what was computed in them that a prediction lacks."""
    lacking = claim(test=lambda evidence: not_tested("training cases", evidence=("k1",)))
    reading = replace(lacking, reads="losses")
    predicted = results(make_record(device=RecordDevice("fake", "Imaginary GPU"), source="predicted"))
    found, other = (one.finding for one in judge([predicted], [reading, lacking]))
    assert found.summary == "This claim needs a measurement: a prediction computes nothing and has no losses."
    assert found.missing == ("a measurement: a prediction computes nothing and has no losses",)
    assert (found.verdict, found.evidence) == ("not tested", ("k1",))
    assert other.summary == "The records lack training cases."
    [measured] = judge([results(make_record())], [reading])
    assert measured.finding == other
    [tested] = judge([predicted], [replace(claim(), reads="losses")])
    assert tested.finding.summary == "It is so."


@pytest.mark.parametrize("device", ["h100", "h200"])
def test_of_committed_predictions_no_claim_says_that_cases_are_missing(device):
    verdicts = judge([read_results(RESULTS / device / "predicted.jsonl")])
    untested = {one.claim.id: one for one in verdicts if one.finding.verdict == "not tested"}
    # Their verdict needs times beside the bytes, which are there, and says so itself.
    assert untested.keys() - {"dropout-rate"} == {claim.id for claim in CLAIMS if claim.reads}
    assert [name for name, one in untested.items() if "records lack" in one.finding.summary] == []
    assert "a verdict needs times" in untested["dropout-rate"].finding.summary


def test_versions_are_scopes_of_their_own_and_files_of_one_scope_are_joined(make_record, results):
    first, second = make_record(), make_record(case={"batch_size": 2})
    assert len(gather([results(first), results(second)])) == 1
    assert len(gather([results(first), results(second, versions={"torch": "2.11.0"})])) == 2
    # Python's version decides neither bytes nor a verdict.
    assert len(gather([results(first), results(second, versions={"python": "3.12.1"})])) == 1


def test_committed_records_are_not_mixed_with_fresh_ones(make_record, results):
    fresh = results(make_record(), path=Path("results/20260102-cpu.jsonl"))
    committed = results(make_record(), path=Path("results/cpu/evidence.jsonl"))
    found = gather([fresh, committed])
    assert [one.scope.committed for one in found] == [False, True]


def test_only_records_that_ended_ok_are_evidence(make_record, failed_record, results):
    [found] = gather([results(make_record(), failed_record)])
    assert ([one.status for one in found.records], [one.status for one in found.others]) == (["ok"], ["failed"])
    assert found.scope.models == ("llama-tiny",)


def test_of_a_case_that_was_run_again_the_last_record_counts(make_record, results):
    first, again = make_record(wall_s=1.0), make_record(wall_s=2.0)
    [found] = gather([results(first, again)])
    assert [one.wall_s for one in found.records] == [2.0]
    # Of two files, too: one case is not two samples.
    [found] = gather([results(first), results(again)])
    assert [one.wall_s for one in found.records] == [2.0]


def test_judge_gives_each_claim_a_verdict_in_each_scope(make_record, results):
    file = results(make_record(), make_record(device=RecordDevice("cuda", "Imaginary GPU")))
    verdicts = judge([file], [claim("one"), claim("two")])
    assert [(one.claim.id, one.scope.device_type) for one in verdicts] == [
        ("one", "cpu"),
        ("two", "cpu"),
        ("one", "cuda"),
        ("two", "cuda"),
    ]
    assert {one.finding.n for one in verdicts} == {1}


def test_a_verdict_names_the_models_of_its_evidence_alone(make_record, results):
    small, large = make_record(), make_record(case={"model": "llama-2-7b"})

    def of_the_large(evidence):
        return Finding("supported", "It is.", evidence=keys(evidence.where(model="llama-2-7b")))

    def of_all(evidence):
        return Finding("supported", "It is.", evidence=keys(evidence.records))

    one, two = judge([results(small, large)], [claim("both", of_all), claim("one", of_the_large)])
    assert (one.models, two.models) == (("llama-2-7b", "llama-tiny"), ("llama-2-7b",))
    assert one.scope.models == two.scope.models == ("llama-2-7b", "llama-tiny")
    assert two.to_dict()["scope"] == f"{small.device.name}; llama-2-7b"


def test_judge_takes_the_catalogue_unless_told_otherwise(results):
    assert judge([results()]) == []


def test_holm_runs_over_the_verdicts_that_rest_on_a_test():
    # 0.03 x 2 is over 5%; 0.01 x 2 is not. Bytes, which have no p value, do not count as tests.
    verdicts = [verdict("supported", 0.01), verdict("supported"), verdict("refuted", 0.03), verdict("conditional")]
    corrected = [one.finding for one in correct(verdicts)]
    assert [one.verdict for one in corrected] == ["supported", "supported", "refuted", "conditional"]
    assert corrected[0].p_value == pytest.approx(0.02)
    assert corrected[2].p_value == pytest.approx(0.03)
    verdicts.append(verdict("supported", 0.04))
    corrected = [one.finding for one in correct(verdicts)]
    assert [one.verdict for one in corrected] == [
        "supported",
        "supported",
        "inconclusive",
        "conditional",
        "inconclusive",
    ]
    assert "0.06 after Holm's correction over 3 tests" in corrected[2].summary
    assert corrected[2].p_value == pytest.approx(0.06)


def test_what_holm_undoes_has_no_condition():
    undone = replace(verdict("conditional", 0.04), finding=Finding("conditional", "", condition="in fp16; not in bf16"))
    undone = replace(undone, finding=replace(undone.finding, p_value=0.04))
    kept, lost = (correct([undone, *others])[0].finding for others in ([], [verdict("supported", 0.04)]))
    assert (kept.verdict, kept.condition) == ("conditional", "in fp16; not in bf16")
    assert (lost.verdict, lost.condition) == ("inconclusive", None)


def test_what_was_open_stays_open():
    verdicts = [verdict("inconclusive", 0.2), verdict("not tested")]
    assert [one.finding.verdict for one in correct(verdicts)] == ["inconclusive", "not tested"]
    assert correct([]) == []


def test_what_was_open_counts_as_a_test_and_has_no_p_value():
    decided, undecided = (one.finding for one in correct([verdict("supported", 0.02), verdict("inconclusive", 1e-6)]))
    assert decided.p_value == pytest.approx(0.04)
    assert undecided.p_value is None
    assert correct([verdict("supported", 0.03), verdict("inconclusive", 1e-6)])[0].finding.verdict == "inconclusive"


def test_not_tested_says_what_is_missing():
    finding = not_tested("an int8 case", "a second seed", evidence=("0123",))
    assert (finding.verdict, finding.missing, finding.evidence) == (
        "not tested",
        ("an int8 case", "a second seed"),
        ("0123",),
    )
    assert finding.summary == "The records lack an int8 case; a second seed."


def test_a_verdict_as_plain_data_has_the_fields_of_the_design():
    finding = Finding("supported", "So.", effect=1.5, ci95=(1.4, 1.6), n=9, evidence=("0123",))
    assert Verdict(claim(), SCOPE, finding).to_dict() == {
        "id": "some-claim",
        "verdict": "supported",
        "effect": 1.5,
        "ci95": [1.4, 1.6],
        "n": 9,
        "threshold": 1.0,
        "unit": "x",
        "scope": "Imaginary CPU",
        "condition": None,
        "summary": "So.",
        "evidence": ["0123"],
        "missing": [],
    }
