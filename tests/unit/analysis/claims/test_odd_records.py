"""Whatever a record lacks or has wrong, a claim gives a finding and raises nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lives import LIFE, arms, evidence, life, timing, trained

from lorabench.analysis.claims.adapter_latency import MERGED_ADDS_NONE, UNMERGED_ADDS_LATENCY
from lorabench.analysis.claims.checkpoints import ADAPTER_ONLY_CHECKPOINT, ADAPTER_RESTORES
from lorabench.analysis.claims.claim import Figure
from lorabench.analysis.claims.disabling import ADAPTERS_DISABLE
from lorabench.analysis.claims.injection import INJECTION_REPLACES_AND_FREEZES, STARTS_AS_IDENTITY
from lorabench.analysis.claims.merging import MERGE_AND_UNLOAD, MERGE_FOLLOWS_MODE
from lorabench.analysis.claims.side_by_side import ADAPTERS_LIVE_SIDE_BY_SIDE, ADAPTERS_SWITCH

CLAIMS = (
    INJECTION_REPLACES_AND_FREEZES,
    STARTS_AS_IDENTITY,
    MERGE_FOLLOWS_MODE,
    ADAPTER_ONLY_CHECKPOINT,
    ADAPTER_RESTORES,
    UNMERGED_ADDS_LATENCY,
    MERGED_ADDS_NONE,
    ADAPTERS_LIVE_SIDE_BY_SIDE,
    ADAPTERS_SWITCH,
    ADAPTERS_DISABLE,
    MERGE_AND_UNLOAD,
)
PATHS = [f"{part}.{name}" for part, values in LIFE.items() if isinstance(values, dict) for name in values] + list(LIFE)
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.lists(st.one_of(st.none(), st.integers(-5, 5), st.text(max_size=3)), max_size=4),
    st.dictionaries(st.sampled_from(["refused", "lora", "other"]), st.one_of(st.none(), st.text(max_size=3))),
)


@pytest.fixture
def good(make_record):
    """Records that test every claim."""
    ten = tuple(0.010 + 1e-5 * index for index in range(10))
    states = dict.fromkeys(("base", "unmerged", "merged"), (ten, ten))
    runs = [record for kind in ("fp16", "int8") for record in arms(make_record, states, quantization=kind)]
    return [life(make_record), life(make_record, adapter_count=8), trained(make_record), *runs]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_good_records_test_every_claim(good, claim):
    assert claim.test(evidence(*good)).verdict != "not tested"


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_no_records_leave_every_claim_untested_with_what_is_missing(claim):
    finding = claim.test(evidence())
    assert (finding.verdict, finding.evidence) == ("not tested", ())
    assert finding.missing
    for text in finding.missing:
        assert text in finding.summary


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_records_without_their_parts_raise_nothing(good, claim):
    bare = [replace(record, memory=None, latency={}, proof=None, observations={}, tokens_per_s=None) for record in good]
    assert claim.test(evidence(*bare, others=bare)).verdict == "not tested"
    lives = [replace(record, memory=None, latency={}, proof=None) for record in good]
    claim.test(evidence(*lives, others=lives))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(st.sampled_from(PATHS), ODD, max_size=6))
def test_odd_values_raise_nothing(good, make_record, changes):
    parts = {path: value for path, value in changes.items() if "." not in path}
    inner = {path: value for path, value in changes.items() if "." in path and path.split(".")[0] not in parts}
    record = life(make_record, {**inner, **parts}, quantization="bf16")
    for claim in CLAIMS:
        for records in ([record], [*good, record]):
            finding = claim.test(evidence(*records))
            assert finding.verdict != "not tested" or finding.missing
            for number in (finding.effect, finding.p_value, *(finding.ci95 or ())):
                assert number is None or math.isfinite(number)


def test_times_of_nothing_are_no_times(make_record):
    states = dict.fromkeys(("base", "unmerged", "merged"), ((0.0,) * 10, (0.0,) * 10))
    runs = [record for kind in ("fp16", "int8") for record in arms(make_record, states, quantization=kind)]
    for claim in (UNMERGED_ADDS_LATENCY, MERGED_ADDS_NONE):
        assert claim.test(evidence(*runs, life(make_record))).verdict == "not tested"


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_figures_draw_columns_that_rows_have(good, claim):
    rows = claim.test(evidence(*good)).rows
    assert rows
    assert len({tuple(row) for row in rows}) == 1, "rows have equal keys"
    assert isinstance(claim.figure, Figure)
    columns = (claim.figure.x, claim.figure.y, claim.figure.series, claim.figure.low, claim.figure.high)
    assert {name for name in columns if name is not None} <= set(rows[0])


def test_the_same_record_in_two_files_counts_once(make_record):
    record = life(make_record)
    later = replace(record, latency={**record.latency, "restore": timing(0.5)})
    finding = ADAPTER_RESTORES.test(evidence(record, later))
    assert (finding.n, finding.rows[0]["restore ms"]) == (1, 500.0)
