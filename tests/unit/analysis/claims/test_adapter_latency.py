"""Claims on the latency of adapters come out every way that records can say."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lives import arms, evidence, life

from lorabench.analysis.claims.adapter_latency import MERGED_ADDS_NONE, UNMERGED_ADDS_LATENCY
from lorabench.analysis.statistics import p_greater

STEADY = tuple(0.0100 + 0.00001 * index for index in range(8))
NOISY = (0.004, 0.006, 0.009, 0.010, 0.010, 0.011, 0.014, 0.016, 0.020, 0.024)


def times(factor: float, of=STEADY):
    return tuple(value * factor for value in of)


def states(state: str, prefill, decode):
    """The other way round beside the base, or every round would have the same ratio to the last digit."""
    return {"base": (STEADY, times(0.1)), state: (prefill[::-1], decode[::-1])}


def unmerged(*records):
    return UNMERGED_ADDS_LATENCY.test(evidence(*records))


def slower(make_record, factor=1.5, **case):
    return arms(make_record, states("unmerged", times(factor), times(0.1 * factor)), **case)


def test_unmerged_is_supported_where_every_interval_lies_above_one(make_record):
    records = [*slower(make_record, 1.5, quantization="fp16"), *slower(make_record, 1.2, quantization="int8")]
    finding = unmerged(*records)
    assert finding.verdict == "supported"
    # The weakest of the four, by its own construction 1.2.
    assert finding.effect == pytest.approx(1.2)
    assert finding.ci95 is not None
    assert 1 < finding.ci95[0] < 1.2 < finding.ci95[1]
    assert finding.n == 8
    # Eight rounds, in each of which the ratio is 1.2 times something between 0.993 and 1.007.
    assert 0 < finding.p_value < 1e-6
    assert [row["ratio"] for row in finding.rows] == pytest.approx([1.5, 1.5, 1.2, 1.2])
    assert {row["outcome"] for row in finding.rows} == {"slower"}
    assert set(finding.evidence) == {record.key for record in records}


def test_unmerged_is_refuted_where_every_time_is_equal_or_faster(make_record):
    finding = unmerged(*slower(make_record, 1.0, quantization="bf16"), *slower(make_record, 0.8, quantization="int8"))
    assert finding.verdict == "refuted"
    assert {row["outcome"] for row in finding.rows} == {"no slower"}


def test_unmerged_is_conditional_where_some_show_none_for_certain(make_record):
    equal = arms(make_record, states("unmerged", times(1.0), times(0.15)), quantization="fp16", batch_size=8)
    finding = unmerged(
        *slower(make_record, quantization="fp16"), *equal, *slower(make_record, quantization="int8", batch_size=8)
    )
    assert finding.verdict == "conditional"
    assert finding.condition == "in the other cases; not in prefill under fp16 at batch size 8"
    assert finding.p_value < 0.05


def test_what_is_undecided_is_none_of_the_other_cases(make_record):
    equal = arms(make_record, states("unmerged", times(1.0), times(0.15)), quantization="fp16", batch_size=8)
    vague = arms(make_record, {"base": (NOISY, NOISY), "unmerged": (NOISY[::-1], NOISY[::-1])}, quantization="int8")
    finding = unmerged(
        *slower(make_record, quantization="fp16"),
        *equal,
        *slower(make_record, quantization="int8", batch_size=8),
        *vague,
    )
    assert finding.verdict == "conditional"
    assert finding.condition == "in 5 of 8 comparisons; not in prefill under fp16 at batch size 8; undecided in 2"


def test_unmerged_is_inconclusive_where_an_interval_spans_one(make_record):
    vague = arms(make_record, {"base": (NOISY, NOISY), "unmerged": (times(1.05, NOISY)[::-1], times(1.5, NOISY)[::-1])})
    finding = unmerged(*slower(make_record, quantization="fp16"), *slower(make_record, quantization="int8"), *vague)
    assert finding.verdict == "inconclusive"
    assert finding.ci95[0] < 1 < finding.ci95[1]


def test_unmerged_is_not_tested_without_half_precision_int8_or_both_phases(make_record):
    assert len(unmerged().missing) == 4
    half = slower(make_record, quantization="fp16")
    assert [text.split(" (")[0] for text in unmerged(*half).missing] == [
        "prefill of base and unmerged, timed in turn, in int8",
        "decode of base and unmerged, timed in turn, in int8",
    ]
    apart = [*slower(make_record, quantization="fp16", grouped=False), *slower(make_record, quantization="int8")]
    assert "timed in turn, in fp16 or bf16" in unmerged(*apart).missing[0]
    prefill_alone = arms(make_record, states("unmerged", times(1.5), (0.001, 0.002)), quantization="int8")
    assert len(unmerged(*half, *prefill_alone).missing) == 1


def test_what_is_not_varied_is_said_and_no_obstacle(make_record):
    finding = unmerged(*slower(make_record, quantization="fp16"), *slower(make_record, quantization="int8"))
    assert finding.verdict == "supported"
    assert len(finding.missing) == 3
    ranks = slower(make_record, quantization="fp16", adapter={"rank": 64, "target_modules": "all-linear"})
    both = [*slower(make_record, quantization="fp16"), *ranks, *slower(make_record, quantization="int8")]
    assert unmerged(*both).missing == ("several batch sizes, base and unmerged timed in turn",)


def on_gpu(records, **busy):
    """Records with what the profiler saw of either phase: a share alone, as older ones have it, or seconds too."""
    found = []
    for record in records:
        seen = busy[record.case["adapter_state"]]
        shares = {phase: {"gpu_busy_share": share, **more} for phase, (share, more) in seen.items()}
        found.append(replace(record, observations={**record.observations, "launch_bound": shares}))
    return found


def test_what_the_gpu_itself_took_is_told_beside(make_record):
    base = {"prefill": (0.5, {}), "decode": (1.0, {"gpu_busy_s": 0.0012})}
    other = {"prefill": (0.6, {}), "decode": (0.9, {"gpu_busy_s": 0.0018})}
    half = on_gpu(slower(make_record, 1.5, quantization="fp16"), base=base, unmerged=other)
    finding = unmerged(*half, *slower(make_record, 1.2, quantization="int8"))
    # Prefill: 0.6 x 1.5 by 0.5. Decode: 0.0018 by 0.0012.
    assert [row["GPU ratio"] for row in finding.rows] == [pytest.approx(1.8), pytest.approx(1.5), None, None]
    assert (
        "the GPU was busy 1.8 times as long in prefill, 1.5 times as long in decode (profiled once" in finding.summary
    )


def test_a_share_that_was_cut_is_no_time(make_record):
    cut = {phase: (1.0, {}) for phase in ("prefill", "decode")}
    half = on_gpu(slower(make_record, 1.5, quantization="fp16"), base=cut, unmerged=cut)
    finding = unmerged(*half, *slower(make_record, 1.2, quantization="int8"))
    assert "the GPU was busy" not in finding.summary
    assert "GPU ratio" not in finding.rows[0]


def merged(*records):
    return MERGED_ADDS_NONE.test(evidence(*records))


def equal(make_record, factor=1.001, **case):
    return arms(make_record, states("merged", times(factor), times(0.1 * factor)), **case)


def test_merged_is_supported_where_times_tie_and_weights_come_back(make_record):
    finding = merged(*equal(make_record, quantization="fp16"), life(make_record))
    assert finding.verdict == "supported"
    assert finding.effect == pytest.approx(1.001)
    assert finding.ci95 is not None
    assert finding.ci95[1] < 1.02
    assert finding.p_value < 0.001
    # What the records were made with: 11 ms a merge, 2 MiB beyond 1 MiB at its peak, outputs off by 0.01.
    assert "Merging took 11 ms." in finding.summary
    assert "at its peak: 2 MiB." in finding.summary
    assert "6e-07 (fp32), 0.01 (fp16) with random weights and a random adapter (L2, relative)" in finding.summary
    trained = life(make_record, {"merge.outputs_relative": 0.047}, quantization="int8", weights="pretrained")
    told = merged(*equal(make_record, quantization="fp16"), life(make_record), trained).summary
    assert "a random adapter; with pretrained weights 0.047 (int8, llama-tiny) (L2, relative)" in told


def test_merged_is_refuted_by_slower_times_or_by_weights_that_never_come_back(make_record):
    slow = merged(*equal(make_record, 1.1, quantization="fp16"), life(make_record))
    assert (slow.verdict, slow.effect) == ("refuted", pytest.approx(1.1))
    lost = merged(*equal(make_record), life(make_record, {"merged_save.outputs_equal": False}))
    assert (lost.verdict, lost.p_value) == ("refuted", None)


def test_a_merged_model_that_is_faster_ties_no_more_than_a_slower_one(make_record):
    assert merged(*equal(make_record, 0.9), life(make_record)).verdict == "inconclusive"


def test_merged_is_conditional_where_saving_is_refused(make_record):
    refused = life(make_record, {"merged_save": {"refused": "NotImplementedError: no"}}, quantization="nf4")
    finding = merged(*equal(make_record), life(make_record), refused)
    assert finding.verdict == "conditional"
    assert finding.condition == "saved and loaded again under fp32; not under nf4"


def test_merged_is_conditional_where_only_some_times_tie(make_record):
    finding = merged(
        *equal(make_record, quantization="fp16"), *equal(make_record, 1.2, quantization="bf16"), life(make_record)
    )
    assert (finding.verdict, finding.condition) == ("conditional", "under fp16; not under bf16")


def test_an_interval_above_the_margin_can_be_undecided_and_its_row_says_why(make_record):
    """Of ten comparisons Holm's factor is ten, and no interval shows it."""
    above = (1.022, 1.030, 1.025, 1.040, 1.022, 1.032, 1.021, 1.028)
    prefill = tuple(value * factor for value, factor in zip(STEADY, above, strict=True))
    slow = arms(make_record, {"base": (STEADY, times(0.1)), "merged": (prefill, times(0.1)[::-1])})
    ties = [one for size in (2, 4, 8, 16) for one in equal(make_record, batch_size=size)]
    finding = merged(*slow, *ties, life(make_record))
    row = next(row for row in finding.rows if row["low"] > 1.02)
    assert row["outcome"] == "undecided"
    alone = p_greater(prefill, STEADY, 1.02)
    assert alone < 0.025
    assert row["p, slower"] == pytest.approx(10 * alone)
    assert row["p, within 2%"] > 0.9
    assert "within 2% for certain in 9 of 10 comparisons, undecided in 1." in finding.summary
    assert "wholly above 1.02, or within 2%, can belong to a comparison that is undecided" in MERGED_ADDS_NONE.method


def test_int8_times_are_told_and_decide_nothing(make_record):
    finding = merged(*equal(make_record), *equal(make_record, 1.5, quantization="int8"), life(make_record))
    assert finding.verdict == "supported"
    assert [row["outcome"] for row in finding.rows] == ["within 2%", "within 2%", "slower", "slower"]


def test_a_case_that_was_timed_for_two_scenarios_is_named_by_them(make_record):
    again = [
        replace(record, scenario="latency", group="latency#1", case={**record.case, "scenario": "latency"})
        for record in equal(make_record)
    ]
    finding = merged(*equal(make_record), *again, life(make_record))
    names = {row["case"] for row in finding.rows}
    assert names == {"bf16 (adapter-state)", "bf16 (latency)"}


def test_merged_is_inconclusive_where_the_interval_is_wider_than_the_margin(make_record):
    vague = arms(make_record, {"base": (NOISY, NOISY), "merged": (NOISY[::-1], NOISY[::-1])})
    finding = merged(*vague, life(make_record))
    assert finding.verdict == "inconclusive"
    assert finding.ci95[0] < 0.98 < 1.02 < finding.ci95[1]


def test_merged_is_not_tested_without_dense_times_or_saved_weights(make_record):
    assert len(merged().missing) == 3
    assert "save the merged weights" in merged(*equal(make_record)).missing[0]
    assert len(merged(*equal(make_record, quantization="int8"), life(make_record)).missing) == 2
    assert merged(*equal(make_record, grouped=False), life(make_record)).verdict == "not tested"
