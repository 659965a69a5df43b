from __future__ import annotations

from dataclasses import replace

import pytest
from lives import evidence
from trainings import training, without_memory

from lorabench.analysis.claims.ranks import RANK_SETS_WIDTH

RANKS = (1, 4, 16, 64)


def ranks(make_record, several=RANKS, **case):
    return [training(make_record, adapter={"rank": rank}, **case) for rank in several]


def test_supported_where_everything_is_r_times_in_plus_out(make_record):
    finding = RANK_SETS_WIDTH.test(evidence(*ranks(make_record)))
    assert finding.verdict == "supported"
    assert finding.effect == pytest.approx(0, abs=1e-9)
    assert finding.ci95 == pytest.approx((0, 0), abs=1e-6)
    assert finding.n == len(RANKS)
    # Llama-tiny: q is 256 x 256 and v 256 x 128, in 4 layers.
    assert [row["r x (in + out)"] for row in finding.rows] == [rank * 4 * (512 + 384) for rank in RANKS]
    assert len(finding.evidence) == len(RANKS)


def test_refuted_by_a_single_parameter(make_record):
    records = ranks(make_record)
    proof = records[2].proof
    assert proof is not None
    records[2] = replace(records[2], proof=replace(proof, trainable_parameters=proof.trainable_parameters + 1))
    assert RANK_SETS_WIDTH.test(evidence(*records)).verdict == "refuted"


def test_refuted_by_bytes_that_grow_twice_as_fast(make_record):
    base = 15 * 2**20
    records = [
        training(make_record, adapter={"rank": rank}, static=base + 2 * 4 * rank * 4 * (512 + 384)) for rank in RANKS
    ]
    finding = RANK_SETS_WIDTH.test(evidence(*records))
    assert finding.verdict == "refuted"
    assert finding.effect == pytest.approx(100)


def test_conditional_where_one_model_holds_and_another_does_not(make_record):
    wrong = [
        training(make_record, adapter={"rank": rank}, model="llama-mini", static=10**8 + rank * 10**6) for rank in RANKS
    ]
    finding = RANK_SETS_WIDTH.test(evidence(*ranks(make_record), *wrong))
    assert finding.verdict == "conditional"
    assert finding.condition == "under llama-tiny fp32; not under llama-mini fp32"


def test_inconclusive_where_the_slope_is_uncertain(make_record):
    per_rank = 4 * 4 * (512 + 384)
    wiggle = (0, 40_000, -40_000, 0)
    records = [
        training(make_record, adapter={"rank": rank}, static=15 * 2**20 + per_rank * rank + off)
        for rank, off in zip(RANKS, wiggle, strict=True)
    ]
    finding = RANK_SETS_WIDTH.test(evidence(*records))
    assert finding.verdict == "inconclusive"
    assert finding.ci95 is not None
    assert finding.ci95[0] < -1 < 1 < finding.ci95[1]


def test_alpha_does_not_part_a_series(make_record):
    records = [training(make_record, adapter={"rank": rank, "alpha": 2.0 * rank}) for rank in RANKS]
    assert RANK_SETS_WIDTH.test(evidence(*records)).verdict == "supported"


def test_not_tested_with_two_ranks_or_without_memory(make_record):
    for records in (ranks(make_record, (1, 4)), [without_memory(record) for record in ranks(make_record)]):
        finding = RANK_SETS_WIDTH.test(evidence(*records))
        assert finding.verdict == "not tested"
        assert "three ranks" in finding.missing[0]
