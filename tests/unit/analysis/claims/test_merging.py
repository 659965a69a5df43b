"""Claims on merging and unloading come out every way that records can say."""

from __future__ import annotations

import pytest
from lives import evidence, life

from lorabench.analysis.claims.merging import MERGE_AND_UNLOAD, MERGE_FOLLOWS_MODE

FOLLOWS = {"modes.merged_after_eval": True, "modes.merged_after_train": False}
EXACT = {"merge.weights_equal": True, "merge.weights_relative": 0.0}


def merge(*records):
    return MERGE_FOLLOWS_MODE.test(evidence(*records))


def test_modes_that_peft_ignores_refute_and_errors_are_told_by_dtype(make_record):
    finding = merge(life(make_record), life(make_record, {"merge.weights_relative": 0.0014}, quantization="bf16"))
    assert (finding.verdict, finding.effect, finding.n) == ("refuted", 0.0, 2)
    assert "2e-08 (fp32), 0.0014 (bf16)" in finding.summary
    assert "eval() merged the layers in 0 of 2 cases, and train() left merged layers merged in 2" in finding.summary


def test_random_weights_are_named_and_pretrained_ones_stand_beside_them(make_record):
    records = [
        life(make_record, {"merge.outputs_relative": off}, quantization=kind, **case)
        for kind, off, case in (
            ("int8", 0.25, {"model": "llama-2-7b"}),
            ("int8", 0.12, {}),
            ("nf4", 0.69, {}),
            ("int8", 0.047, {"weights": "pretrained", "model": "smollm2-135m"}),
        )
    ]
    random = "merged outputs are off by 0.25 (int8), 0.69 (nf4) with random weights and a random adapter"
    pretrained = "with pretrained weights 0.047 (int8, smollm2-135m)"
    assert f"{random}; {pretrained} (L2, relative)." in merge(*records).summary
    assert f"{random} (L2, relative)." in merge(*records[:3]).summary
    assert f"off by {pretrained} and a random adapter (L2, relative)." in merge(records[3]).summary
    assert "off by what was not measured" in merge(life(make_record, {"merge.outputs_relative": None})).summary


def test_the_guides_time_would_have_supported(make_record):
    finding = merge(
        life(make_record, {**FOLLOWS, **EXACT}), life(make_record, {**FOLLOWS, **EXACT}, quantization="fp16")
    )
    assert (finding.verdict, finding.effect, finding.condition) == ("supported", 1.0, None)


def test_half_a_mode_is_no_mode(make_record):
    """Merged by eval(), and left merged by train()."""
    assert merge(life(make_record, {**FOLLOWS, **EXACT, "modes.merged_after_train": True})).effect == 0.0


def test_a_round_trip_that_is_exact_in_some_dtypes_is_a_condition(make_record):
    finding = merge(life(make_record, {**FOLLOWS, **EXACT}), life(make_record, FOLLOWS, quantization="bf16"))
    assert finding.verdict == "conditional"
    assert finding.condition == "weights come back exactly under fp32; not under bf16"


def test_modes_followed_in_some_cases_are_a_condition(make_record):
    finding = merge(life(make_record, {**FOLLOWS, **EXACT}), life(make_record, EXACT, quantization="int8"))
    assert (finding.verdict, finding.effect) == ("conditional", 0.5)
    assert finding.condition == "layers follow the mode under fp32; not under int8"


def test_a_round_trip_that_no_dtype_survives_refutes(make_record):
    assert merge(life(make_record, FOLLOWS)).verdict == "refuted"


def test_modes_are_not_tested_without_modes_or_a_round_trip(make_record):
    assert len(merge().missing) == 2
    assert "eval()" in merge(life(make_record, {"modes": None})).missing[0]
    assert "merge and unmerge" in merge(life(make_record, {"merge": None})).missing[0]


def unload(*records):
    return MERGE_AND_UNLOAD.test(evidence(*records))


def test_unloading_is_supported_where_nothing_stays(make_record):
    finding = unload(life(make_record), life(make_record, quantization="nf4"))
    assert (finding.verdict, finding.effect, finding.n) == ("supported", 0.0, 2)
    assert finding.rows[0]["unload ms"] == pytest.approx(11.0)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"unload.lora_modules_left": 3}, "3 LoRA modules left"),
        ({"unload.bytes_over_base": 4096}, "4096 bytes over the base's"),
        ({"unload.outputs_equal_merged": False}, "outputs differ from the merged model's"),
    ],
)
def test_whatever_stays_refutes(make_record, changes, problem):
    finding = unload(life(make_record, changes))
    assert (finding.verdict, finding.rows[0]["problem"]) == ("refuted", problem)
    assert finding.effect == changes.get("unload.lora_modules_left", 0)


def test_fewer_bytes_than_the_base_had_are_none_left(make_record):
    assert unload(life(make_record, {"unload.bytes_over_base": -512})).verdict == "supported"


def test_unloading_is_conditional_where_some_dtypes_keep_bytes(make_record):
    finding = unload(life(make_record), life(make_record, {"unload.bytes_over_base": 9}, quantization="int8"))
    assert (finding.verdict, finding.condition) == ("conditional", "under fp32; not under int8")


def test_unloading_is_not_tested_without_its_facts(make_record):
    for changes in ({"unload": None}, {"unload.bytes_over_base": None}, {"unload.outputs_equal_merged": None}):
        assert unload(life(make_record, changes)).verdict == "not tested"


def test_todays_call_is_what_peft_has():
    """The card names calls that exist, and an argument that does not, by the source of PEFT."""
    from importlib.util import find_spec
    from pathlib import Path

    spec = find_spec("peft")
    assert spec is not None
    assert spec.origin is not None
    tuners = Path(spec.origin).parent / "tuners"
    config, base = (tuners / "lora" / "config.py").read_text(), (tuners / "tuners_utils.py").read_text()
    assert "merge_weights" not in config
    for call in ("merge_adapter", "unmerge_adapter", "merge_and_unload"):
        assert f"{call}()" in (MERGE_FOLLOWS_MODE.now or "")
        assert f"def {call}(" in base
    assert "def train(" not in (tuners / "lora" / "layer.py").read_text()
