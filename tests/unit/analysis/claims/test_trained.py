from __future__ import annotations

from dataclasses import replace

import pytest
from lives import evidence
from trainings import training

from lorabench.analysis.claims.trained import BIAS_MODES, TASK_TYPES
from lorabench.case import Adapter
from lorabench.record import Proof, RecordError

# opt-tiny: 4 layers of width 256; q, k, v, out and fc2 have 256 biases, fc1 has 1024; 9 norms have 256.
OF_TARGETS, OF_ALL = 4 * 2 * 256, 4 * (5 * 256 + 1024) + 9 * 256
ADAPTER = 8 * 4 * 2 * 512


def modes(make_record, counts=(0, OF_TARGETS, OF_ALL), model="opt-tiny", **case):
    return [
        training(
            make_record,
            adapter={"bias": mode},
            model=model,
            proof={"trainable_parameters": ADAPTER + count},
            **case,
        )
        for mode, count in zip(("none", "lora_only", "all"), counts, strict=True)
    ]


def test_biases_supported_where_the_counts_are_exact(make_record):
    finding = BIAS_MODES.test(evidence(*modes(make_record)))
    assert (finding.verdict, finding.effect, finding.n) == ("supported", 0.0, 3)
    assert [row["trained biases"] for row in finding.rows] == [0, OF_TARGETS, OF_ALL]


def test_biases_conditional_where_one_mode_is_off_by_one(make_record):
    finding = BIAS_MODES.test(evidence(*modes(make_record, (0, OF_TARGETS, OF_ALL + 1))))
    assert (finding.verdict, finding.effect) == ("conditional", 1.0)
    assert finding.condition == "under bias none and bias lora_only; not under bias all"


def test_biases_refuted_where_every_mode_is_off(make_record):
    assert BIAS_MODES.test(evidence(*modes(make_record, (5, 5, 5)))).verdict == "refuted"


def test_biases_counted_by_name_must_agree(make_record):
    trainable = {"lora": ADAPTER, "bias": 7, "head": 0, "other": 0}
    records = modes(make_record)
    records[1] = replace(records[1], observations={"training": {"trainable": trainable}})
    assert BIAS_MODES.test(evidence(*records)).verdict == "conditional"


def test_biases_not_tested_without_a_mode_or_on_a_model_without_biases(make_record):
    assert BIAS_MODES.test(evidence(*modes(make_record)[:2])).verdict == "not tested"
    llama = [training(make_record, adapter={"bias": mode}) for mode in ("none", "lora_only", "all")]
    finding = BIAS_MODES.test(evidence(*llama))
    assert finding.verdict == "not tested"
    assert "biases" in finding.missing[0]
    assert len(finding.evidence) == 3


HEADS = {"CAUSAL_LM": 0, "SEQ_CLS": 512, "TOKEN_CLS": 514, "FEATURE_EXTRACTION": 0}


def types(make_record, heads=None, leave_out=()):
    records = []
    for name, head in {**HEADS, **(heads or {})}.items():
        record = training(make_record, adapter={"task_type": name})
        assert record.proof is not None
        trained = record.proof.trainable_parameters + head
        records.append(replace(record, proof=replace(record.proof, trainable_parameters=trained)))
    lora = Adapter(rank=8, task_type="SEQ_2_SEQ_LM", target_modules=("q", "v"))
    # T5-small: 18 attentions of 512 x 512.
    t5 = Proof(trainable_parameters=18 * 2 * 8 * 1024, total_parameters=60_801_536)
    records.append(make_record(case={"model": "t5-small", "adapter": lora, "axes": ()}, proof=t5))
    return [record for record in records if record.case["adapter"]["task_type"] not in leave_out]


def test_types_supported_where_all_five_train_what_they_should(make_record):
    finding = TASK_TYPES.test(evidence(*types(make_record)))
    assert (finding.verdict, finding.effect, finding.n) == ("supported", 5.0, 5)
    assert "SEQ_CLS on llama-tiny (512)" in finding.summary


def test_types_conditional_where_a_head_does_not_train(make_record):
    finding = TASK_TYPES.test(evidence(*types(make_record, {"SEQ_CLS": 0})))
    assert (finding.verdict, finding.effect) == ("conditional", 4.0)
    assert finding.condition is not None
    assert finding.condition.endswith("not under SEQ_CLS")


def test_types_conditional_where_one_fails(make_record):
    lora = Adapter(rank=8, task_type="TOKEN_CLS")
    failed = make_record(
        case={"adapter": lora, "axes": ()},
        status="failed",
        error=RecordError("RuntimeError", "no loss", "forward"),
        proof=None,
        memory=None,
        latency={},
    )
    finding = TASK_TYPES.test(evidence(*types(make_record, leave_out=("TOKEN_CLS",)), others=[failed]))
    assert finding.verdict == "conditional"
    assert failed.key in finding.evidence
    assert len({tuple(row) for row in finding.rows}) == 1


def test_types_refuted_where_none_trains_what_it_should(make_record):
    records = types(make_record, dict.fromkeys(HEADS, 9))
    records[-1] = replace(records[-1], proof=Proof(trainable_parameters=1))
    assert TASK_TYPES.test(evidence(*records)).verdict == "refuted"


@pytest.mark.parametrize("missing", ["CAUSAL_LM", "SEQ_CLS", "SEQ_2_SEQ_LM", "TOKEN_CLS", "FEATURE_EXTRACTION"])
def test_types_not_tested_without_one_of_them(make_record, missing):
    finding = TASK_TYPES.test(evidence(*types(make_record, leave_out=(missing,))))
    assert finding.verdict == "not tested"
    assert finding.missing == (f"a training case with task type {missing}",)
