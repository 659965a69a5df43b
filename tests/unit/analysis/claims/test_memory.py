from __future__ import annotations

import pytest
from lives import evidence
from trainings import MIB, training

from lorabench.analysis.claims.memory import STATIC_FOLLOWS_PARAMETERS


def three_axes(make_record, **case):
    """Cases that differ in batch size, in length and in rank alone."""
    return [
        *(training(make_record, batch_size=batch, **case) for batch in (1, 2)),
        training(make_record, sequence_length=64, **case),
        training(make_record, adapter={"rank": 16}, **case),
    ]


def test_static_supported_where_it_is_the_bytes_of_the_parameters(make_record):
    several = [training(make_record, quantization=kind) for kind in ("bf16", "int8", "nf4")]
    prepared = training(make_record, quantization="int8", kbit_preparation=True)
    finding = STATIC_FOLLOWS_PARAMETERS.test(evidence(*three_axes(make_record), *several, prepared))
    assert finding.verdict == "supported"
    assert finding.effect == pytest.approx(0, abs=1e-12)
    assert {row["model"] for row in finding.rows} == {
        *(f"llama-tiny {kind}" for kind in ("fp32", "bf16", "int8", "nf4")),
        "llama-tiny int8 prepared",
    }


def test_static_refuted_a_percent_off(make_record):
    computed = training(make_record).memory
    assert computed is not None
    records = [
        training(make_record, batch_size=batch, sequence_length=length, adapter={"rank": rank}, static=16_500_000)
        for batch, length, rank in ((1, 512, 8), (2, 512, 8), (1, 64, 8), (1, 512, 9))
    ]
    finding = STATIC_FOLLOWS_PARAMETERS.test(evidence(*records))
    assert finding.verdict == "refuted"
    assert finding.effect == pytest.approx(100 * (16_500_000 / computed.static_bytes - 1), rel=0.01)


def test_static_conditional_where_one_form_of_weights_is_off(make_record):
    wrong = training(make_record, quantization="int8", static=6 * MIB)
    finding = STATIC_FOLLOWS_PARAMETERS.test(evidence(*three_axes(make_record), wrong))
    assert finding.verdict == "conditional"
    assert finding.condition == "under llama-tiny fp32; not under llama-tiny int8"


def test_static_tells_a_variant_of_the_adapter_from_the_plain_one(make_record):
    dora = training(make_record, adapter={"options": {"use_dora": True}}, static=6 * MIB)
    finding = STATIC_FOLLOWS_PARAMETERS.test(evidence(*three_axes(make_record), dora))
    assert finding.condition == "under llama-tiny fp32; not under llama-tiny fp32 with use_dora"


def test_static_conditional_where_one_byte_comes_with_the_batch(make_record):
    plain = training(make_record).memory
    assert plain is not None
    assert plain.static_bytes is not None
    more = training(make_record, batch_size=3, static=plain.static_bytes + 1)
    finding = STATIC_FOLLOWS_PARAMETERS.test(evidence(*three_axes(make_record), more))
    assert finding.verdict == "conditional"
    assert finding.condition is not None
    assert "a changing batch size" in finding.condition


@pytest.mark.parametrize(
    ("left_out", "axis"), [((1,), "batch_size"), ((2,), "sequence_length"), ((3,), "adapter.rank")]
)
def test_static_not_tested_without_an_axis(make_record, left_out, axis):
    records = [record for index, record in enumerate(three_axes(make_record)) if index not in left_out]
    finding = STATIC_FOLLOWS_PARAMETERS.test(evidence(*records))
    assert finding.verdict == "not tested"
    assert finding.missing == (f"training cases that differ in {axis} alone",)
