"""Claims of chapters 4 and 7 on merging: what modes do, what a round trip loses, and what merge_and_unload leaves."""

from __future__ import annotations

from collections.abc import Sequence

from lorabench.analysis.claims.claim import Claim, Figure, Finding, Judgement, not_tested
from lorabench.analysis.claims.conditions import condition, decide, facts, labels, listed
from lorabench.analysis.claims.evidence import Evidence, keys, setting
from lorabench.analysis.claims.lifecycle import flag, having, integer, median_ms, number, outputs_off, span, took
from lorabench.record import Record


def _test_modes(evidence: Evidence) -> Finding:
    modes = [record for record in having(evidence, "modes") if _follows(record) is not None]
    trips = [record for record in having(evidence, "merge") if flag(record, "merge.weights_equal") is not None]
    missing = [
        text
        for text, records in (
            ("lifecycle cases that look at the layers after eval() and after train()", modes),
            ("lifecycle cases that merge and unmerge", trips),
        )
        if not records
    ]
    if missing:
        return not_tested(*missing, evidence=keys(modes + trips))
    following = [record for record in modes if _follows(record)]
    exact, inexact = _split(trips, "merge.weights_equal")
    verdict, where = _judge_modes(modes, following, exact, inexact)
    merged_by_eval = [record for record in modes if flag(record, "modes.merged_after_eval")]
    kept_by_train = [record for record in modes if flag(record, "modes.merged_after_train")]
    rows = [record for record in trips if number(record, "merge.weights_relative") is not None]
    return Finding(
        verdict,
        f"eval() merged the layers in {len(merged_by_eval)} of {len(modes)} cases, and train() left merged layers "
        f"merged in {len(kept_by_train)}. Merged and unmerged by call, weights come back {_exactness(exact, inexact)}; "
        f"merged outputs are off by {outputs_off((one, number(one, 'merge.outputs_relative')) for one in trips)} (L2, "
        f"relative). "
        f"{took('Merging', trips, 'merge')} {took('Unmerging', trips, 'unmerge')}",
        effect=len(following) / len(modes),
        n=len(modes),
        condition=where,
        evidence=keys(modes + trips),
        rows=tuple(
            {
                "case": name,
                "merged after eval()": flag(record, "modes.merged_after_eval"),
                "merged after train()": flag(record, "modes.merged_after_train"),
                "weights equal": flag(record, "merge.weights_equal"),
                "weights off": number(record, "merge.weights_relative"),
                "outputs off": number(record, "merge.outputs_relative"),
                "merge ms": median_ms(record, "merge"),
                "unmerge ms": median_ms(record, "unmerge"),
            }
            for record, name in zip(rows, labels(rows), strict=True)
        ),
    )


def _judge_modes(
    modes: Sequence[Record], following: Sequence[Record], exact: Sequence[Record], inexact: Sequence[Record]
) -> tuple[Judgement, str | None]:
    """Refuted where no layer follows the mode, or none comes back exactly; else where both hold."""
    if not following or not exact:
        return "refuted", None
    parts = []
    if len(following) < len(modes):
        others = [facts(record) for record in modes if not _follows(record)]
        parts.append(f"layers follow the mode {condition([facts(record) for record in following], others)}")
    if inexact:
        held, failed = [facts(record) for record in exact], [facts(record) for record in inexact]
        parts.append(f"weights come back exactly {condition(held, failed)}")
    return ("conditional", "; ".join(parts)) if parts else ("supported", None)


def _follows(record: Record) -> bool | None:
    after_eval, after_train = flag(record, "modes.merged_after_eval"), flag(record, "modes.merged_after_train")
    return None if after_eval is None or after_train is None else after_eval and not after_train


def _split(records: Sequence[Record], path: str) -> tuple[list[Record], list[Record]]:
    return [one for one in records if flag(one, path)], [one for one in records if flag(one, path) is False]


def _exactness(exact: Sequence[Record], inexact: Sequence[Record]) -> str:
    parts = []
    if exact:
        parts.append(
            f"bit for bit in {len(exact)} cases ({listed(str(setting(one, 'quantization')) for one in exact)})"
        )
    if inexact:
        parts.append(f"off by {_by_type(inexact, 'merge.weights_relative')} (Frobenius, relative) in {len(inexact)}")
    return " and ".join(parts)


def _by_type(records: Sequence[Record], path: str) -> str:
    """The largest value of each quantization: ``1.2e-08 (fp32), 0.0017 (bf16)``."""
    largest: dict[str, float] = {}
    for record in records:
        value = number(record, path)
        if value is not None:
            name = str(setting(record, "quantization"))
            largest[name] = max(value, largest.get(name, value))
    return ", ".join(f"{value:.2g} ({name})" for name, value in largest.items()) or "what was not measured"


MERGE_FOLLOWS_MODE = Claim(
    id="merge-follows-mode",
    chapter="2, 4.3.2",
    title="Merging follows the mode",
    hypothesis="eval() merges a LoRA layer and train() unmerges it, and the round trip gives its weights back exactly.",
    method="Unmerged layers are asked whether they are merged after eval(), and merged ones after train(). "
    "merge_adapter() and unmerge_adapter() are called between: weights before and after are compared bit for bit, "
    "outputs merged and unmerged by their distance, for each dtype.",
    refuted_by="Layers that are not merged after eval(), or are after train(); or weights that no dtype gives back.",
    threshold=1.0,
    threshold_text="layers are merged after eval() and not after train(), in every case",
    unit="share of cases whose layers follow eval() and train()",
    test=_test_modes,
    figure=Figure("bars", x="case", y="weights off", x_label="case", y_label="weights after the round trip, relative"),
    then="LoraConfig(merge_weights=True), then model.eval() and model.train()",
    now="model.merge_adapter() and model.unmerge_adapter(), called when wanted; model.merge_and_unload() to keep it so",
    cause="LoraConfig takes no merge_weights any more, and PEFT's LoRA layers do not override train(), which eval() "
    "calls: a layer is merged by its merge() alone. In int8 and nf4, merge() and unmerge() in peft/tuners/lora/bnb.py "
    "dequantize, add or subtract, and quantize again, each with its rounding.",
    reads="merged weights or outputs",
)


def _test_unload(evidence: Evidence) -> Finding:
    records = [record for record in having(evidence, "unload") if _unload_facts(record) is not None]
    if not records:
        return not_tested("lifecycle cases that call merge_and_unload")
    clean = [record for record in records if not _unload_problem(record)]
    verdict, where = decide(
        [facts(record) for record in clean], [facts(record) for record in records if _unload_problem(record)]
    )
    left = [integer(record, "unload.lora_modules_left") or 0 for record in records]
    over = [integer(record, "unload.bytes_over_base") or 0 for record in records]
    equal = [record for record in records if flag(record, "unload.outputs_equal_merged")]
    return Finding(
        verdict,
        f"After merge_and_unload {sum(left)} LoRA modules were left in {len(records)} cases, bytes over the base's "
        f"were {span(over, 'bytes')}, and outputs equalled the merged model's bit for bit in {len(equal)}. "
        f"{took('It', records, 'unload')}",
        effect=float(max(left)),
        n=len(records),
        condition=where,
        evidence=keys(records),
        rows=tuple(
            {
                "case": name,
                "LoRA modules left": integer(record, "unload.lora_modules_left"),
                "bytes over base": integer(record, "unload.bytes_over_base"),
                "outputs as merged": flag(record, "unload.outputs_equal_merged"),
                "largest difference": number(record, "unload.outputs_max_abs_merged"),
                "unload ms": median_ms(record, "unload"),
                "problem": _unload_problem(record),
            }
            for record, name in zip(records, labels(records), strict=True)
        ),
    )


def _unload_facts(record: Record) -> tuple[int, int, bool] | None:
    left, over = integer(record, "unload.lora_modules_left"), integer(record, "unload.bytes_over_base")
    equal = flag(record, "unload.outputs_equal_merged")
    return None if left is None or over is None or equal is None else (left, over, equal)


def _unload_problem(record: Record) -> str | None:
    found = _unload_facts(record)
    if found is None:
        return None
    left, over, equal = found
    problems = [
        f"{left} LoRA modules left" if left else "",
        f"{over} bytes over the base's" if over > 0 else "",
        "" if equal else "outputs differ from the merged model's",
    ]
    return "; ".join(filter(None, problems)) or None


MERGE_AND_UNLOAD = Claim(
    id="merge-and-unload",
    chapter="7",
    title="merge_and_unload leaves a plain model",
    hypothesis="merge_and_unload folds the active adapter in and leaves nothing of LoRA: no module, no byte, and the "
    "merged model's outputs.",
    method="After the call LoRA modules are counted, allocated bytes, without libraries' workspaces, are compared with "
    "those of the base before it had an adapter, and logits with those of the model while merged.",
    refuted_by="A LoRA module or bytes that stay, or outputs that differ from the merged model's.",
    threshold=0.0,
    threshold_text="no LoRA module, no byte over the base's, no logit that differs",
    unit="LoRA modules left",
    test=_test_unload,
    figure=Figure("bars", x="case", y="unload ms", x_label="case", y_label="merge_and_unload, ms"),
    cause="Bytes that stay at an outlier threshold above 0 are not LoRA's. MatMul8bitLt.forward in "
    "bitsandbytes/autograd/_functions.py keeps the outlier columns of each layer's last forward pass (state.idx), of "
    "merged layers too, and the base's bytes were read before it had one. On a CPU these tensors add up to the bytes "
    "that stay, 4,464 of SmolLM2-135M's 210 layers. Time: in int8 and nf4 merge() in peft/tuners/lora/bnb.py takes "
    "each merged weight to the CPU, and it is quantized again on its way back. With an fp32 adapter the sum is fp32: "
    "that is 4.3 GB there for the 64 layers of Llama-2-7B and, in nf4, as much back (in int8 half of it, for "
    "Int8Params._quantize in bitsandbytes/nn/modules.py casts it to fp16 first), seconds where 16 bits take "
    "milliseconds. In two profiles each on an H200 (not among the records) these copies are 88 and 89% of such a merge "
    "in nf4, 75 and 83% in int8.",
    caveat={"cpu": "Only a GPU's allocator shows whether memory that was freed can be used again."},
    reads="outputs",
)
