"""Claims of chapter 6: what an adapter costs at inference beside the weights, and merged into them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lorabench.analysis.claims.claim import Claim, Figure, Finding, not_tested
from lorabench.analysis.claims.comparisons import (
    Comparison,
    RatioTest,
    busy_ranges,
    compare,
    compared_keys,
    comparison_rows,
    instability,
    judge_comparisons,
    lacking,
    ranges,
    settle,
)
from lorabench.analysis.claims.conditions import decide, facts
from lorabench.analysis.claims.evidence import Evidence, keys, observed, setting
from lorabench.analysis.claims.lifecycle import MIB, extra_peak_bytes, flag, having, number, outputs_off, span, took
from lorabench.analysis.statistics import p_equivalent, p_greater, paired_ratio
from lorabench.record import Record

MARGIN = 0.02
_DENSE = ("fp32", "fp16", "bf16")
_HALF = ("fp16", "bf16")


def _slower(over: Sequence[float], under: Sequence[float]) -> RatioTest:
    """Holds where the interval lies above 1; fails where it lies below, or where the two are equal within 2%."""
    ratio = paired_ratio(over, under)
    p_held = p_greater(over, under) if ratio.low > 1 else 1.0
    p_none = p_greater(under, over) if ratio.high < 1 else p_equivalent(over, under, MARGIN)
    return RatioTest(ratio, p_held, p_none)


def _no_slower(over: Sequence[float], under: Sequence[float]) -> RatioTest:
    """Holds where the two are equal within 2%; fails where the interval lies above that."""
    ratio = paired_ratio(over, under)
    p_slower = p_greater(over, under, 1 + MARGIN) if ratio.low > 1 + MARGIN else 1.0
    return RatioTest(ratio, p_equivalent(over, under, MARGIN), p_slower)


def _test_unmerged(evidence: Evidence) -> Finding:
    cells = compare(evidence, "unmerged", _slower)
    missing = lacking(cells, "unmerged", {"fp16 or bf16": _HALF, "int8": ("int8",)})
    if missing:
        return not_tested(*missing, evidence=compared_keys(cells))
    cells = settle(cells)
    verdict, where, p_value = judge_comparisons(cells)
    weakest = min(cells, key=lambda cell: cell.test.ratio.low).test.ratio
    slower = [cell for cell in cells if cell.outcome == "held"]
    return Finding(
        verdict,
        f"Unmerged took {ranges(cells)} times the base's time, and was slower for certain in {len(slower)} of "
        f"{len(cells)} comparisons; the weakest is {weakest.value:.3g} "
        f"[{weakest.low:.3g}, {weakest.high:.3g}].{busy_ranges(cells)}{instability(cells)}",
        effect=weakest.value,
        ci95=weakest.ci95,
        n=weakest.n,
        condition=where,
        evidence=compared_keys(cells),
        missing=_not_varied(cells),
        rows=comparison_rows(cells, {"held": "slower", "failed": "no slower", "undecided": "undecided"}),
        p_value=p_value,
    )


def _not_varied(cells: Sequence[Comparison]) -> tuple[str, ...]:
    axes = {"batch_size": "batch sizes", "adapter.rank": "ranks", "adapter.target_modules": "target modules"}
    return tuple(
        f"several {words}, base and unmerged timed in turn"
        for name, words in axes.items()
        if len({str(setting(cell.other, name)) for cell in cells}) < 2
    )


UNMERGED_ADDS_LATENCY = Claim(
    id="unmerged-adds-latency",
    chapter="6",
    title="Unmerged adapters add latency",
    hypothesis="Beside the base's weights, LoRA layers make both prefill and decoding slower.",
    method="Base and unmerged model run in one process, in turn, on the same weights; the ratio of their times, round "
    "by round (trimmed geometric mean with Student's interval), for prefill and decode apart, by batch, rank, targets "
    "and dtype. A comparison counts as slower when the interval lies above 1; where not all do, when that is left "
    "after Holm's correction over all of them: the p values in the table are those that count.",
    refuted_by=f"Intervals below 1, or times that are equal within {MARGIN:.0%} by two one-sided tests.",
    threshold=1.0,
    threshold_text="every interval lies above 1",
    unit="unmerged / base time, weakest comparison",
    test=_test_unmerged,
    figure=Figure(
        "points",
        x="case",
        y="ratio",
        series="phase",
        low="low",
        high="high",
        reference=1.0,
        x_label="case",
        y_label="unmerged / base time",
    ),
    cause="Linear.forward in peft/tuners/lora/layer.py adds twelve operators to each adapted layer: casts, two "
    "products, scaling, a sum. A token of Llama-3.2-1B takes 2,582 operators with all linear layers adapted, 1,622 "
    "with query and value, 1,238 without. While it decodes, an H100 waits for their launches most of the time. Where "
    "the GPU is busy it waits for memory: input and output of each adapted layer are read and written in fp32, too. A "
    "prefill of 8 x 512 tokens of Llama-2-7B moves 327 GB instead of 124, for 0.3% more operations.",
    caveat={
        "cpu": "On a CPU, too, it is mostly the added operators and not their products: rank 64 adds little to what "
        "rank 8 adds. How long a GPU waits for their launches, only a GPU shows."
    },
    reads="times",
)


def _test_merged(evidence: Evidence) -> Finding:
    every = compare(evidence, "merged", _no_slower)
    cells = [cell for cell in every if cell.quantization in _DENSE]
    saved = [record for record in having(evidence, "merged_save") if _comes_back(record) is not None]
    missing = lacking(cells, "merged", {"fp32, fp16 or bf16": _DENSE})
    if not any(setting(record, "quantization") in _DENSE for record in saved):
        missing.append("lifecycle cases in fp32, fp16 or bf16 that save the merged weights and load them again")
    if missing:
        return not_tested(*missing, evidence=compared_keys(every) + keys(saved))
    cells = settle(cells)
    # What is quantized is told beside them, and decides nothing.
    quantized = settle([cell for cell in every if cell.quantization not in _DENSE])
    verdict, where, p_value = judge_comparisons(cells)
    kept = [facts(record) for record in saved if _comes_back(record)]
    lost = [facts(record) for record in saved if not _comes_back(record)]
    saving, saving_where = decide(kept, lost)
    if saving == "refuted":
        verdict, where = "refuted", None
    elif saving == "conditional" and verdict in ("supported", "conditional"):
        parts = (where and f"no slower {where}", f"saved and loaded again {saving_where}")
        verdict, where = "conditional", "; ".join(filter(None, parts))
    farthest = max((cell.test.ratio for cell in cells), key=lambda ratio: abs(math.log(ratio.value)))
    same, slower = ([cell for cell in cells if cell.outcome == outcome] for outcome in ("held", "failed"))
    also = f", slower in {len(slower)}" if slower else ""
    also += f", undecided in {len(cells) - len(same) - len(slower)}" if len(same) + len(slower) < len(cells) else ""
    return Finding(
        verdict,
        f"Merged took {ranges(cells)} times the base's time in dense dtypes, and was within {MARGIN:.0%} for certain "
        f"in {len(same)} of {len(cells)} comparisons{also}.{busy_ranges(cells)} Saved and loaded again, {len(kept)} of "
        f"{len(saved)} merged models gave the same outputs. {_merging(evidence, every)}{instability(cells)}",
        effect=farthest.value,
        ci95=farthest.ci95,
        n=farthest.n,
        condition=where,
        evidence=tuple(dict.fromkeys(compared_keys(every) + keys(saved))),
        rows=comparison_rows(cells + quantized, {"held": "within 2%", "failed": "slower", "undecided": "undecided"}),
        # Where saving alone decides, no test does.
        p_value=None if saving == "refuted" else p_value,
    )


def _comes_back(record: Record) -> bool | None:
    """Whether a saved merged model, loaded again, answers the same; a refusal to save it is a no."""
    if isinstance(observed(record, "lifecycle.merged_save.refused"), str):
        return False
    return flag(record, "merged_save.outputs_equal")


def _merging(evidence: Evidence, cells: Sequence[Comparison]) -> str:
    """What merging takes and what it loses: time, peak, and the distance of merged outputs from unmerged ones."""
    merging = having(evidence, "merge")
    peaks = [extra_peak_bytes(record, "merge") for record in merging]
    lost: list[tuple[Record, object]] = [(one, number(one, "merge.outputs_relative")) for one in merging]
    lost += [(cell.other, observed(cell.other, "output_difference.unmerged.relative")) for cell in cells]
    return (
        f"{took('Merging', merging, 'merge')} Bytes beyond those before merging, at its peak: "
        f"{span([None if peak is None else peak / MIB for peak in peaks], 'MiB')}. Merged outputs are off by up to "
        f"{outputs_off(lost)} (L2, relative)."
    )


MERGED_ADDS_NONE = Claim(
    id="merged-adds-none",
    chapter="6",
    title="Merged adapters add no latency",
    hypothesis="A merged model runs as fast as its base, and can be saved and loaded as new weights.",
    method="Base and merged model run in one process, in turn; the ratio of their times, round by round (trimmed "
    "geometric mean with Student's interval), and two one-sided tests on the logarithms, for prefill and decode in "
    "dense dtypes. Where comparisons come out differently, what is left after Holm's correction over them counts. The "
    "p values in the table are corrected so, low and high are not: an interval that lies wholly above "
    f"{1 + MARGIN:g}, or within {MARGIN:.0%}, can belong to a comparison that is undecided. int8 and nf4 are corrected "
    "among themselves. The merged model is saved, loaded as a plain one, and its logits compared. What int8 and nf4 "
    "lose in merging is told.",
    refuted_by=f"Times that are more than {MARGIN:.0%} above the base's for certain, or merged weights that do not "
    "come back from a file.",
    threshold=1.0,
    threshold_text=f"within {MARGIN:.0%} of 1 by two one-sided tests in every comparison, and outputs equal after "
    "loading",
    unit="merged / base time, farthest comparison",
    test=_test_merged,
    figure=Figure(
        "points",
        x="case",
        y="ratio",
        series="phase",
        low="low",
        high="high",
        reference=1.0,
        x_label="case",
        y_label="merged / base time",
    ),
    cause="Where a prefill of several sequences takes longer, it is the output head. PEFT leaves the base frozen; for "
    "a weight that needs no gradient should_fold in ATen/native/LinearAlgebra.cpp does not fold the last positions of "
    "the sequences, a view with gaps, into one matrix, and torch multiplies sequence by sequence: the head is read "
    "once for each. On Llama-3.2-1B, 8 sequences, seven more reads are 3.7 GB; an H100 was busy 1.2 to 1.3 ms longer, "
    "an H200 0.7 to 0.8, in bf16, fp16, int8 and nf4 alike. On a CPU one sequence is enough, in bf16. Tried apart (not "
    "among the records), a base that is frozen by hand runs the same operators, and a prefill of llama-tiny on a CPU "
    "takes 1.08 times as long in bf16 and 1.00 in fp16 once its head alone is frozen. What int8 and nf4 lose: merge() "
    "in peft/tuners/lora/bnb.py dequantizes, adds and quantizes again.",
    caveat={"cpu": "A CPU's decoding scatters by more than 2%: a tie needs more rounds than on a busy GPU."},
    reads="times or outputs",
)
