"""Claims on injection come out every way that records can say."""

from __future__ import annotations

import pytest
from lives import evidence, life, trained

from lorabench.analysis.claims.injection import INJECTION_REPLACES_AND_FREEZES, STARTS_AS_IDENTITY
from lorabench.record import RecordError


def inject(*records, others=()):
    return INJECTION_REPLACES_AND_FREEZES.test(evidence(*records, others=others))


def test_injection_is_supported_where_all_is_as_it_should_be(make_record):
    records = [life(make_record), life(make_record, quantization="int8"), trained(make_record)]
    finding = inject(*records)
    assert (finding.verdict, finding.effect, finding.n) == ("supported", 1.0, 3)
    assert set(finding.evidence) == {record.key for record in records}
    assert [row["replaced"] for row in finding.rows] == [8, 8]
    assert "16 of 16 adapter gradients" in finding.summary
    assert finding.rows[0]["attach ms"] == pytest.approx(11.0)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"modules.unexpected": ["lm_head"], "modules.replaced": 9}, "layers that no target names have an adapter"),
        ({"modules.missing": ["q_proj"], "modules.replaced": 7}, "targeted layers have no adapter"),
        ({"trainable.other": 12}, "other weights train beside the adapter"),
        ({"base_unchanged": False}, "base weights changed"),
    ],
)
def test_injection_is_refuted_where_every_case_goes_wrong(make_record, changes, problem):
    finding = inject(life(make_record, changes), trained(make_record, unchanged=False))
    assert finding.verdict == "refuted"
    assert problem in finding.rows[0]["problem"]
    assert finding.rows[1]["problem"] == "base weights changed"


def test_a_silently_untrained_adapter_refutes_whatever_else_holds(make_record):
    error = RecordError("InvalidCaseError", "12 of 16 adapter gradients arrived", None)
    silent = trained(make_record, 12, status="invalid", error=error)
    finding = inject(life(make_record), trained(make_record), others=[silent])
    assert (finding.verdict, finding.effect) == ("refuted", 28 / 32)
    assert finding.condition is None
    assert silent.key in finding.evidence


def test_injection_is_conditional_on_biases_and_heads(make_record):
    biased = life(make_record, {"trainable.bias": 64}, adapter={"bias": "all"})
    headed = life(make_record, {"trainable.head": 64}, adapter={"task_type": "SEQ_CLS"})
    finding = inject(life(make_record), biased, headed, trained(make_record))
    assert finding.verdict == "conditional"
    assert finding.condition == (
        "with bias none, with task type CAUSAL_LM; not with bias all, nor with task type SEQ_CLS"
    )


def test_injection_is_not_tested_without_both_kinds_of_case(make_record):
    assert len(inject().missing) == 2
    only_lives, only_training = inject(life(make_record)), inject(trained(make_record))
    assert (only_lives.verdict, only_training.verdict) == ("not tested", "not tested")
    assert "training cases" in only_lives.missing[0]
    assert "lifecycle cases" in only_training.missing[0]
    # Cases with biases alone cannot say what the adapter alone does.
    assert inject(life(make_record, adapter={"bias": "all"}), trained(make_record)).verdict == "not tested"


def test_full_fine_tuning_is_no_evidence(make_record):
    whole = trained(make_record, case={"adapter": None})
    assert inject(life(make_record), whole).verdict == "not tested"
    assert inject(life(make_record), trained(make_record), whole).n == 2


def identity(*records):
    return STARTS_AS_IDENTITY.test(evidence(*records))


def differs(make_record, **case):
    return life(make_record, {"identity.equal_before_step": False, "identity.max_abs_before": 0.5}, **case)


def test_a_fresh_adapter_is_the_identity_in_all_cases_or_none(make_record):
    finding = identity(life(make_record), life(make_record, quantization="bf16"))
    assert (finding.verdict, finding.effect, finding.n) == ("supported", 0.0, 2)
    assert (identity(differs(make_record)).verdict, identity(differs(make_record)).effect) == ("refuted", 0.5)


def test_a_step_that_changes_nothing_refutes_too(make_record):
    assert identity(life(make_record, {"identity.equal_after_step": True})).verdict == "refuted"


def test_identity_is_conditional_where_some_dtypes_differ(make_record):
    finding = identity(life(make_record), differs(make_record, quantization="nf4"))
    assert (finding.verdict, finding.condition) == ("conditional", "under fp32; not under nf4")


def test_identity_is_not_tested_without_a_comparison(make_record):
    for records in ([], [trained(make_record)], [life(make_record, {"identity": None})]):
        assert identity(*records).verdict == "not tested"
