"""Whatever a training record lacks or has wrong, a claim of chapters 2 and 3 gives a finding and raises nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lives import evidence, life
from trainings import around, training

from lorabench.analysis.claims.catalogue import CLAIMS
from lorabench.analysis.claims.claim import Figure
from lorabench.record import Memory, Proof

MINE = tuple(claim for claim in CLAIMS if claim.chapter[0] in "23" and claim.id != "merge-follows-mode")
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=4),
    st.lists(st.one_of(st.none(), st.floats(-10, 10), st.text(max_size=3)), max_size=4),
    st.dictionaries(
        st.sampled_from(["trainable", "lora", "cache", "returned", "warnings", "update_norm", "errors"]),
        st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.text(max_size=3)),
        max_size=4,
    ),
)
BYTES = st.one_of(st.none(), st.integers(0, 2**40))


@pytest.fixture
def good(make_record):
    """Records that test most claims."""
    group = {"group": "in turn", "seconds": around(0.01)}
    whole = {"weights": "pretrained", "model": "smollm2-135m", "data": "text"}
    return [
        *(training(make_record, adapter={"rank": rank}, **group) for rank in (4, 16, 64)),
        *(training(make_record, adapter={"dropout": rate}, **group) for rate in (0.0, 0.1)),
        *(training(make_record, adapter={"target_modules": names}) for names in (("q_proj",), "all-linear")),
        *(training(make_record, model="opt-tiny", adapter={"bias": bias}) for bias in ("none", "all", "lora_only")),
        *(training(make_record, adapter={"task_type": name}) for name in ("SEQ_CLS", "TOKEN_CLS")),
        *(training(make_record, adapter={"task_type": name}) for name in ("SEQ_2_SEQ_LM", "FEATURE_EXTRACTION")),
        *(training(make_record, quantization=kind) for kind in ("fp16", "int8")),
        *(training(make_record, batch_size=batch, dynamic=batch << 20) for batch in (1, 2, 4)),
        *(training(make_record, sequence_length=length) for length in (64, 128)),
        training(make_record, model="llama-mini", dynamic=90 << 20),
        *(training(make_record, gradient_checkpointing=mode) for mode in ("none", "reentrant", "non-reentrant")),
        training(
            make_record,
            gradient_checkpointing="reentrant",
            use_cache=True,
            observations={"losses": [1.0], "training": {"cache": {"returned": False, "warnings": ["off"]}}},
        ),
        *(
            training(
                make_record,
                adapter={"rank": rank, "alpha": alpha},
                seed=seed,
                observations={"losses": [3.0, 2.0 - rank / 64], "training": {"update_norm": float(rank)}},
                **whole,
            )
            for seed in (0, 1)
            for rank, alpha in ((4, 16.0), (16, 16.0), (4, 4.0))
        ),
        *(
            training(
                make_record,
                quantization="int8",
                kbit_preparation=prepared,
                seed=seed,
                observations={"losses": [3.0, 3.5 - prepared, 2.0]},
                **whole,
            )
            for seed in (0, 1)
            for prepared in (False, True)
        ),
        replace(
            life(make_record, quantization="int8"),
            observations={
                "schemes": {
                    "absmax_codes": {"compared": 10, "differing": 0, "largest_difference": 0},
                    "errors": [
                        {"tensor": "skewed", "scheme": name, "axis": "row", "relative_error": error, "bytes": 10}
                        for name, error in (("absmax", 0.2), ("zero-point", 0.1))
                    ],
                }
            },
        ),
    ]


def test_all_fourteen_claims_are_looked_at():
    assert len(MINE) == 14


@pytest.mark.parametrize("claim", MINE, ids=lambda claim: claim.id)
def test_good_records_test_every_claim(good, claim):
    assert claim.test(evidence(*good)).verdict != "not tested"


@pytest.mark.parametrize("claim", MINE, ids=lambda claim: claim.id)
def test_no_records_leave_every_claim_untested_with_what_is_missing(claim):
    finding = claim.test(evidence())
    assert (finding.verdict, finding.evidence, finding.rows) == ("not tested", (), ())
    assert finding.missing
    for text in finding.missing:
        assert text in finding.summary


@pytest.mark.parametrize("claim", MINE, ids=lambda claim: claim.id)
@pytest.mark.parametrize(
    "parts",
    [
        {"memory": None},
        {"memory": Memory()},
        {"memory": Memory(0, 0, 0)},
        {"proof": None},
        {"proof": Proof()},
        {"latency": {}},
        {"observations": {}},
        {"memory": None, "proof": None, "latency": {}, "observations": {}},
    ],
    ids=["memory", "no bytes", "zero bytes", "proof", "empty proof", "latency", "observations", "all"],
)
def test_records_without_a_part_raise_nothing(good, claim, parts):
    bare = [replace(record, **parts) for record in good]
    for records in (bare, [*good, *bare]):
        finding = claim.test(evidence(*records, others=bare))
        assert finding.verdict != "not tested" or finding.missing


@pytest.mark.parametrize("claim", MINE, ids=lambda claim: claim.id)
def test_a_finding_is_the_same_each_time(good, claim):
    assert claim.test(evidence(*good)) == claim.test(evidence(*good))


@pytest.mark.parametrize("claim", MINE, ids=lambda claim: claim.id)
def test_figures_draw_columns_that_rows_have(good, claim):
    rows = claim.test(evidence(*good)).rows
    assert rows
    assert len({tuple(row) for row in rows}) == 1, "rows have equal keys"
    assert isinstance(claim.figure, Figure)
    columns = (claim.figure.x, claim.figure.y, claim.figure.series, claim.figure.low, claim.figure.high)
    assert {name for name in columns if name is not None} <= set(rows[0])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    index=st.integers(0, 60),
    observations=st.dictionaries(
        st.sampled_from(["losses", "training", "schemes", "launch_bound", "lifecycle"]), VALUES, max_size=4
    ),
    static=BYTES,
    dynamic=BYTES,
)
def test_odd_values_raise_nothing(good, index, observations, static, dynamic):
    odd = replace(good[index % len(good)], observations=observations, memory=Memory(static, dynamic, static))
    for claim in MINE:
        for records in ([odd], [*good, odd], [odd, *good]):
            finding = claim.test(evidence(*records))
            assert finding.verdict != "not tested" or finding.missing
            for number in (finding.effect, finding.p_value, *(finding.ci95 or ())):
                assert number is None or math.isfinite(number)


def test_times_of_nothing_are_no_times(good):
    stopped = [
        replace(record, latency={name: replace(one, samples_s=(0.0,) * 9) for name, one in record.latency.items()})
        for record in good
    ]
    for claim in MINE:
        claim.test(evidence(*stopped))
