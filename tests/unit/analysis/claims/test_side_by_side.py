"""Claims on several adapters come out every way that records can say."""

from __future__ import annotations

import pytest
from lives import evidence, life, timing

from lorabench.analysis.claims.side_by_side import ADAPTERS_LIVE_SIDE_BY_SIDE, ADAPTERS_SWITCH
from lorabench.record import RecordDevice

REFUSED = {"refused": "LoraModel supports only 1 adapter with bias."}


def many(make_record, count, changes=None, **case):
    sizes = {"adapters.count": count, "adapters.bytes_each": [4096] * count}
    loads = {"adapters.load_s": [0.010 + 0.002 * index for index in range(count)]}
    return life(make_record, {**sizes, **loads, **(changes or {})}, adapter_count=count, **case)


def together(*records):
    return ADAPTERS_LIVE_SIDE_BY_SIDE.test(evidence(*records))


def test_adapters_that_answer_as_alone_at_their_own_bytes_support(make_record):
    finding = together(many(make_record, 1), many(make_record, 8))
    assert (finding.verdict, finding.effect, finding.n) == ("supported", 1.0, 9)
    # The loads grow by 2 ms each: so were they made.
    assert "+2 ms [2, 2] for each adapter already there" in finding.summary
    assert finding.rows[1]["load ms, last"] == pytest.approx(24.0)
    # Of each case with enough of them: one that has fewer may have another slope.
    steeper = many(make_record, 4, {"adapters.load_s": [0.010, 0.015, 0.020, 0.025]})
    told = together(many(make_record, 2), steeper, many(make_record, 8)).summary
    assert "+2 ms [2, 2] for each adapter already there (of 4 +5 ms [5, 5])." in told
    # Which is whose is told where models differ.
    larger = many(make_record, 4, {"adapters.load_s": [0.010, 0.015, 0.020, 0.025]}, model="llama-2-7b")
    told = together(many(make_record, 2), larger, many(make_record, 8)).summary
    assert "Of 8 loaded one after the other on llama-tiny, each took 10 to 24 ms, +2 ms [2, 2] for" in told
    assert "(of 4 on llama-2-7b +5 ms [5, 5])." in told


@pytest.mark.parametrize(
    ("changes", "effect", "problem"),
    [
        ({"adapters.equal_alone": False}, 1.0, "outputs differ from those of an adapter alone"),
        ({"adapters.bytes_each": [4096, 8192]}, 2.0, "2 times its own bytes"),
        ({"adapters.bytes_each": [0, 4096]}, 0.0, "0 times its own bytes"),
    ],
)
def test_company_that_costs_or_changes_refutes(make_record, changes, effect, problem):
    finding = together(many(make_record, 2, changes))
    assert (finding.verdict, finding.effect, finding.rows[0]["problem"]) == ("refuted", effect, problem)


def test_a_gpus_allocator_may_round_and_a_cpu_may_not(make_record):
    rounded = {"adapters.expected_bytes": 4_194_304, "adapters.bytes_each": [4_202_496]}
    assert together(many(make_record, 1, rounded)).verdict == "refuted"
    gpu = RecordDevice("cuda", "Imaginary GPU")
    assert together(many(make_record, 1, rounded, device=gpu)).verdict == "supported"
    doubled = {**rounded, "adapters.bytes_each": [8_388_608]}
    assert together(many(make_record, 1, doubled, device=gpu)).verdict == "refuted"


def test_a_refused_second_adapter_is_a_condition(make_record):
    refused = life(make_record, {"adapters": REFUSED, "switch": REFUSED}, adapter={"bias": "all"})
    for claim in (ADAPTERS_LIVE_SIDE_BY_SIDE, ADAPTERS_SWITCH):
        finding = claim.test(evidence(many(make_record, 1), many(make_record, 8), refused))
        assert (finding.verdict, finding.condition) == ("conditional", "with bias none; not with bias all")
        assert "refused a second adapter in 1 more" in finding.summary


def test_company_is_not_tested_without_further_adapters(make_record):
    for records in (
        [],
        [life(make_record, {"adapters": REFUSED})],
        [life(make_record, {"adapters.bytes_each": []})],
        [life(make_record, {"adapters.expected_bytes": 0})],
        [life(make_record, {"adapters.equal_alone": None})],
    ):
        assert together(*records).verdict == "not tested"


def test_what_peft_refused_is_told_with_its_reason_where_nothing_else_is_there(make_record):
    refused = [
        life(make_record, {"adapters": REFUSED, "switch": REFUSED}, adapter={"bias": bias})
        for bias in ("all", "lora_only")
    ]
    for claim in (ADAPTERS_LIVE_SIDE_BY_SIDE, ADAPTERS_SWITCH):
        finding = claim.test(evidence(*refused))
        assert finding.verdict == "not tested"
        assert finding.summary.endswith(
            " PEFT refused a second adapter in 2 cases: LoraModel supports only 1 adapter with bias."
        )
        assert set(finding.evidence) == {record.key for record in refused}
    # Nothing was refused: nothing is told of it.
    assert "refused" not in together(life(make_record, {"adapters.bytes_each": []})).summary
    assert "refused" not in switch(many(make_record, 1)).summary


def switch(*records):
    return ADAPTERS_SWITCH.test(evidence(*records))


def test_switching_tells_its_time_with_the_most_adapters(make_record):
    records = [many(make_record, count) for count in (1, 8, 32, 64)]
    slow = many(make_record, 64, quantization="bf16")
    slow.latency["switch"] = timing(0.019, 0.020, 0.021)
    finding = switch(*records, slow)
    assert (finding.verdict, finding.n, finding.missing) == ("supported", 3, ())
    assert finding.effect == pytest.approx(20.0)
    assert finding.ci95 == pytest.approx((19.0, 21.0))
    assert [row["adapters"] for row in finding.rows] == [1, 8, 32, 64, 64]
    assert [row["case"] for row in finding.rows] == ["fp32"] * 4 + ["bf16"]


def test_outputs_that_stay_behind_refute_or_are_a_condition(make_record):
    stuck = {"switch.follows": False}
    assert switch(many(make_record, 1, stuck), many(make_record, 8, stuck)).verdict == "refuted"
    finding = switch(many(make_record, 1), many(make_record, 8, stuck))
    assert (finding.verdict, finding.condition) == ("conditional", "with 1 adapters; not with 8 adapters")


def test_switching_needs_several_counts_and_tells_which_lack(make_record):
    assert switch().verdict == "not tested"
    one = switch(many(make_record, 1))
    assert (one.verdict, one.missing) == ("not tested", ("lifecycle cases with adapter_count 8, 32, 64",))
    two = switch(many(make_record, 1), many(make_record, 8))
    assert (two.verdict, two.missing) == ("supported", ("lifecycle cases with adapter_count 32, 64",))
