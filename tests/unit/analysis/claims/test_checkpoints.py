"""Claims on saved adapters come out every way that records can say."""

from __future__ import annotations

import pytest
from lives import evidence, life

from lorabench.analysis.claims.checkpoints import ADAPTER_ONLY_CHECKPOINT, ADAPTER_RESTORES

BIASES = {"save.other_keys": ["q_proj.base_layer.bias", "v_proj.base_layer.bias"], "save.file_bytes": 1500}


def save(*records):
    return ADAPTER_ONLY_CHECKPOINT.test(evidence(*records))


def test_a_file_of_the_computed_bytes_supports(make_record):
    known = {"save.file_bytes": 16_794_200, "save.expected_bytes": 16_794_200, "save.full_file_bytes": 13_476_831_232}
    finding = save(life(make_record, known), life(make_record, known, quantization="int8"))
    assert (finding.verdict, finding.effect, finding.n) == ("supported", 1.0, 2)
    # 16,794,200 / 13,476,831,232: Llama-2-7B's adapter of rank 8 by the model in 16 bits.
    assert finding.rows[0]["% of the whole"] == pytest.approx(0.12461, abs=1e-5)
    assert "0.125 % of the whole model's" in finding.summary


def test_one_byte_more_refutes(make_record):
    finding = save(life(make_record, {"save.file_bytes": 1001}))
    assert (finding.verdict, finding.effect) == ("refuted", 1.001)
    assert finding.rows[0]["problem"] == "1001 bytes instead of 1000"


def test_other_keys_in_a_plain_case_refute(make_record):
    finding = save(life(make_record, {"save.other_keys": ["lm_head.weight"]}))
    assert (finding.verdict, finding.rows[0]["problem"]) == ("refuted", "saves lm_head.weight")


def test_biases_and_heads_are_the_condition(make_record):
    head = {"save.other_keys": ["score.weight"]}
    finding = save(
        life(make_record),
        life(make_record, BIASES, adapter={"bias": "all"}),
        life(make_record, head, adapter={"task_type": "SEQ_CLS"}),
    )
    assert finding.verdict == "conditional"
    assert finding.condition == (
        "with bias none, with task type CAUSAL_LM; not with bias all, nor with task type SEQ_CLS"
    )
    # The adapter's own file decides the effect, not one with biases in it.
    assert finding.effect == 1.0
    assert {row["problem"] for row in finding.rows} == {
        None,
        "saves q_proj.base_layer.bias and 1 more",
        "saves score.weight",
    }


def test_biases_that_are_saved_without_known_bytes_still_count(make_record):
    biased = life(make_record, {**BIASES, "save.expected_bytes": None}, adapter={"bias": "lora_only"})
    assert save(life(make_record), biased).verdict == "conditional"


def test_saving_is_not_tested_without_a_plain_case_and_its_bytes(make_record):
    for records in (
        [],
        [life(make_record, {"save": None})],
        [life(make_record, {"save.expected_bytes": None})],
        [life(make_record, {"save.expected_bytes": 0})],
        [life(make_record, BIASES, adapter={"bias": "all"})],
    ):
        finding = save(*records)
        assert finding.verdict == "not tested"
        assert "bias none" in finding.missing[0]


def restore(*records):
    return ADAPTER_RESTORES.test(evidence(*records))


def lossy(make_record, **case):
    return life(make_record, {"restore.equal": False, "restore.max_abs": 0.125}, **case)


def test_restoring_supports_refutes_or_depends(make_record):
    same = restore(life(make_record), life(make_record, quantization="nf4"))
    assert (same.verdict, same.effect, same.n) == ("supported", 0.0, 2)
    assert same.rows[0]["restore ms"] == pytest.approx(11.0)
    assert (restore(lossy(make_record)).verdict, restore(lossy(make_record)).effect) == ("refuted", 0.125)
    some = restore(life(make_record), lossy(make_record, adapter={"bias": "all"}))
    assert (some.verdict, some.condition) == ("conditional", "with bias none; not with bias all")


def test_restoring_is_not_tested_where_nothing_was_restored(make_record):
    for records in ([], [life(make_record, {"restore": None})], [life(make_record, {"restore.equal": None})]):
        assert restore(*records).verdict == "not tested"
