"""Where a claim holds and where it does not, in words."""

from __future__ import annotations

import pytest
from lives import life

from lorabench.analysis.claims.conditions import condition, decide, facts, in_order, labels, listed
from lorabench.case import Adapter


def at(**settings):
    return {name.replace("__", "."): value for name, value in settings.items()}


def test_all_none_or_some():
    one, other = at(quantization="fp32"), at(quantization="bf16")
    assert decide([one, other], []) == ("supported", None)
    assert decide([], [one]) == ("refuted", None)
    assert decide([one], [other]) == ("conditional", "under fp32; not under bf16")


@pytest.mark.parametrize(
    ("held", "failed", "words"),
    [
        (
            [at(quantization="fp32", model="a"), at(quantization="fp16", model="b")],
            [at(quantization="bf16", model="a"), at(quantization="int8", model="b")],
            "under fp32 and fp16; not under bf16 or int8",
        ),
        # The bias is named, not the model that only the failing case has: it comes first.
        (
            [at(adapter__bias="none", model="a")],
            [at(adapter__bias="all", model="b")],
            "with bias none; not with bias all",
        ),
        # Two causes, each its own.
        (
            [at(adapter__bias="none", adapter__task_type="CAUSAL_LM")],
            [
                at(adapter__bias="all", adapter__task_type="CAUSAL_LM"),
                at(adapter__bias="lora_only", adapter__task_type="CAUSAL_LM"),
                at(adapter__bias="none", adapter__task_type="SEQ_CLS"),
            ],
            "with bias none, with task type CAUSAL_LM; not with bias all or lora_only, nor with task type SEQ_CLS",
        ),
        # No setting alone tells them apart.
        (
            [at(phase="prefill", batch_size=1), at(phase="decode", batch_size=8)],
            [at(phase="prefill", batch_size=8)],
            "in the other cases; not in prefill at batch size 8",
        ),
        # The same case held and failed.
        (
            [at(quantization="fp32", model="a")],
            [at(quantization="fp32", model="a")],
            "in the other cases; not under fp32 on a",
        ),
    ],
)
def test_a_condition_names_what_the_failing_have_and_the_holding_lack(held, failed, words):
    assert condition(held, failed) == words


def test_unexplained_cases_are_named_up_to_four():
    same = [at(quantization="fp32", model=f"m{index}") for index in range(6)]
    words = condition(same, same)
    assert "under fp32 on m3, nor in 2 more" in words
    assert "m4" not in words


def test_facts_leave_out_what_does_not_apply(make_record):
    assert "int8_threshold" not in facts(life(make_record))
    assert facts(life(make_record, quantization="int8", int8_threshold=0.0), state="merged")["int8_threshold"] == 0.0


def test_labels_tell_cases_apart_by_what_is_unusual(make_record):
    records = [
        life(make_record),
        life(make_record, quantization="bf16"),
        life(make_record, adapter={"bias": "all"}, model="opt-tiny"),
        life(make_record, adapter_count=8),
    ]
    assert labels(records) == ["fp32", "bf16", "fp32 bias=all opt-tiny", "fp32 adapter_count=8"]
    assert labels(records, "adapter_count")[3] == "fp32"


def test_labels_of_every_setting_name_those_that_no_condition_does(make_record):
    settings = [{}, {}, {"attention": "eager"}, {"padding": 0.5, "int8_threshold": 0.0}, {"quantization": "int8"}]
    records = [make_record(case=case) for case in settings]
    assert labels(records) == ["bf16", "bf16", "bf16", "bf16", "int8"]
    assert labels(records, every=True) == ["bf16", "bf16", "bf16 attention=eager", "bf16 padding=0.5", "int8"]
    assert labels(records, "padding", every=True)[3] == "bf16"


def test_the_order_of_a_shuffled_run_does_not_show(make_record):
    records = [
        life(make_record, adapter_count=64),
        life(make_record, quantization="int8"),
        life(make_record, adapter={"bias": "lora_only"}),
        life(make_record, adapter_count=8),
        life(make_record, adapter={"bias": "all"}),
        life(make_record, quantization="fp16"),
        life(make_record),
    ]
    wanted = [
        "fp32",
        "fp32 adapter_count=8",
        "fp32 adapter_count=64",
        "fp32 bias=all",
        "fp32 bias=lora_only",
        "fp16",
        "int8",
    ]
    for shuffled in (records, records[::-1], records[3:] + records[:3]):
        assert labels(in_order(shuffled)) == wanted


def test_listed():
    assert [listed(["a"]), listed(["a", "b"]), listed(["a", "b", "a", "c"], "or")] == ["a", "a and b", "a, b or c"]


def test_a_label_has_room_for_the_adapted_modules(make_record):
    records = [
        make_record(case={"adapter": Adapter(rank=rank, target_modules=targets)})
        for rank, targets in ((8, "all-linear"), (8, "all-linear"), (64, ("q_proj", "k_proj")), (8, ("query", "value")))
    ]
    assert labels(records)[1:] == ["bf16", "bf16 on q+k rank=64", "bf16 on query+value"]
