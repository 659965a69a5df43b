"""Loading in 8 bit: what it cuts, and what that costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorabench.analysis.claims.claim import Claim, Figure, Finding, Judgement, not_tested
from lorabench.analysis.claims.evidence import Evidence, Where, dynamic_bytes, keys, setting, static_bytes
from lorabench.analysis.claims.outliers import (
    Pair,
    beside,
    dynamic_ratio,
    is_honest,
    share_of_outliers,
    span,
    told_outliers,
)
from lorabench.analysis.claims.shapes import shapes_of
from lorabench.analysis.claims.timing import busy_ratio, timed_in_turn
from lorabench.analysis.claims.words import TIMED_IN_TURN, listed, mib, without_unknown
from lorabench.analysis.statistics import Estimate, paired_ratio
from lorabench.record import Record

_HALF = 0.55
_NO_CUT = 0.95
_EXACT = 0.005
_HALF_PRECISION = ("fp16", "bf16")
_LOADED = {"task": "train", "kbit_preparation": False, "adapter": lambda adapter: adapter is not None}


def _cuts(evidence: Evidence) -> Finding:
    every = _pairs(evidence)
    if not every:
        return not_tested("training cases in int8 and in fp16 or bf16, alike in all else, with memory")
    pairs = _by_model(every)
    steps = _times(evidence, _LOADED, "step")
    decodes = _times(evidence, {"task": "infer"}, "decode")
    rows = [_cut_row(model, half, int8, steps.get(model), decodes.get(model)) for model, (half, int8) in pairs.items()]
    worst, best = max(rows, key=lambda row: row["ratio"]), min(rows, key=lambda row: row["ratio"])
    verdict, condition = _verdict(rows)
    dearest = max(every, key=_preference)
    dearest = max((pair for pair in every if is_honest(pair) == is_honest(dearest)), key=dynamic_ratio)
    told_dearest = _told_dearest(dearest, rows)
    cases = beside(evidence, _LOADED, every)
    more = [*([dearest] if told_dearest else []), *(pair for case in cases for pair in case)]
    price = [f"dynamic memory {span(row['dynamic ratio'] for row in rows)}{told_dearest}"]
    price += [f"a step {_told_time(rows, 'step')}"] if any(row["step ratio"] for row in rows) else []
    price += [f"a decoded token {_told_time(rows, 'decode')}"] if decodes else []
    return Finding(
        verdict,
        f"int8 takes {_told_cuts(best, worst)}. The price, as a multiple of 16 bits: {', '.join(price)}."
        + told_outliers(cases, pairs.values(), [one.int8 for one in (*steps.values(), *decodes.values())]),
        effect=worst["ratio"],
        n=len(rows),
        condition=condition,
        evidence=keys(record for pair in (*pairs.values(), dearest, *more) for record in pair),
        missing=() if steps else (TIMED_IN_TURN,),
        rows=without_unknown(
            [*rows, *_rows_beside(more, pairs.values())], "largest outlier share", "step GPU ratio", "decode GPU ratio"
        ),
    )


def _pairs(evidence: Evidence) -> list[Pair]:
    return [
        pair
        for threshold in ({}, {"int8_threshold": (0.0,)})
        for dtype in _HALF_PRECISION
        for pair in evidence.pairs("quantization", dtype, "int8", {**_LOADED, **threshold})
        if all(static_bytes(one) and dynamic_bytes(one) for one in pair)
    ]


def _by_model(pairs: Sequence[Pair]) -> dict[str, Pair]:
    """One pair a model: without checkpointing, which has a price of its own; of several the one that pays most."""
    models = dict.fromkeys(str(setting(int8, "model")) for _, int8 in pairs)
    return {
        model: max((pair for pair in pairs if setting(pair[1], "model") == model), key=_preference) for model in models
    }


def _preference(pair: Pair) -> tuple[bool, bool, float]:
    return is_honest(pair), setting(pair[1], "gradient_checkpointing") == "none", dynamic_ratio(pair)


def _told_cuts(best: Mapping[str, Any], worst: Mapping[str, Any]) -> str:
    cuts, computed = f"{best['ratio']:.3f} of 16-bit static memory on {best['model']}", f"{best['computed'] or 0:.3f}"
    if worst is not best:
        cuts += f" and {worst['ratio']:.3f} on {worst['model']}"
        computed += f" and {worst['computed'] or 0:.3f}"
    return f"{cuts}, as computed ({computed})"


def _told_dearest(pair: Pair, rows: Sequence[Mapping[str, Any]]) -> str:
    """The highest price with checkpointing, where it is higher than without."""
    mode, ratio = setting(pair[1], "gradient_checkpointing"), dynamic_ratio(pair)
    if mode == "none" or ratio <= max(row["dynamic ratio"] for row in rows):
        return ""
    return f" (with {mode} checkpointing up to {ratio:.2f}, on {setting(pair[1], 'model')})"


def _rows_beside(pairs: Sequence[Pair], known: Iterable[Pair]) -> list[dict[str, Any]]:
    """Rows of dynamic memory alone, each case once and those ``known`` not again.

    Without a ratio they decide nothing and have no bar: static memory is that of the model's own row.
    """
    seen = {int8.key for _, int8 in known}
    unique = {int8.key: (half, int8) for half, int8 in pairs if int8.key not in seen}
    rows = [
        {**_cut_row(str(setting(int8, "model")), half, int8, None, None), **dict.fromkeys(_OF_STATIC)}
        for half, int8 in unique.values()
    ]
    # Those that are compared stand below each other.
    return sorted(rows, key=lambda row: [str(row[name]) for name in ("model", "checkpointing", "bytes of")])


_OF_STATIC = ("16-bit static MiB", "int8 static MiB", "ratio", "computed", "quantized parameters, %")


def _verdict(rows: Sequence[Mapping[str, Any]]) -> tuple[Judgement, str | None]:
    exact = [row for row in rows if row["computed"] is None or abs(row["ratio"] / row["computed"] - 1) <= _EXACT]
    cut = [row for row in exact if row["ratio"] <= _NO_CUT]
    halved = [row for row in cut if row["ratio"] <= _HALF]
    if not cut:
        return "refuted", None
    if len(halved) == len(rows):
        return "supported", None
    others = [row for row in rows if row not in halved]
    bound, half = (listed(f"{row['model']} ({row['ratio']:.3f})" for row in some) for some in (others, halved))
    if not halved:
        return "conditional", f"it cuts, but not to half, because embeddings and head stay: {bound}"
    return "conditional", f"on {half}; not on {bound}, where embeddings and head hold more of the parameters"


def _cut_row(model: str, half: Record, int8: Record, step: _Time | None, decode: _Time | None) -> dict[str, Any]:
    shapes = shapes_of(int8)
    adapter = 4 * (int8.proof.trainable_parameters if int8.proof else 0)
    computed = None
    if shapes is not None:
        computed = (shapes.weight_bytes("int8") + adapter) / (shapes.weight_bytes("fp16") + adapter)
    return {
        "model": model,
        "16-bit static MiB": mib(static_bytes(half)),
        "int8 static MiB": mib(static_bytes(int8)),
        "ratio": static_bytes(int8) / static_bytes(half),
        "computed": computed,
        "quantized parameters, %": None if shapes is None else 100 * shapes.quantized / shapes.parameters,
        "outlier threshold": setting(int8, "int8_threshold"),
        "checkpointing": setting(int8, "gradient_checkpointing"),
        "weights": setting(int8, "weights"),
        "largest outlier share": share_of_outliers(int8),
        "bytes of": _workload(half),
        "dynamic ratio": dynamic_ratio((half, int8)),
        "peak ratio": (static_bytes(int8) + dynamic_bytes(int8)) / (static_bytes(half) + dynamic_bytes(half)),
        "times of": _workload(step.half) if step else None,
        **_time_row("step", step),
        **_time_row("decode", decode),
    }


def _time_row(phase: str, time: _Time | None) -> dict[str, Any]:
    return {
        f"{phase} ratio": time.ratio.value if time else None,
        f"{phase} low": time.ratio.low if time else None,
        f"{phase} high": time.ratio.high if time else None,
        f"{phase} GPU ratio": time.busy if time else None,
    }


def _workload(record: Record) -> str:
    sizes = f"{setting(record, 'batch_size')} x {setting(record, 'sequence_length')}"
    return f"{setting(record, 'quantization')} {sizes}"


def _told_time(rows: Sequence[Mapping[str, Any]], phase: str) -> str:
    busy = [row[f"{phase} GPU ratio"] for row in rows if row[f"{phase} GPU ratio"]]
    told = span(row[f"{phase} ratio"] for row in rows)
    return f"{told} (of the GPU's own time {span(busy)})" if busy else told


@dataclass(frozen=True)
class _Time:
    """int8's time by that of 16 bits, and how long the GPU had work in each: what is left without the host."""

    half: Record
    int8: Record
    ratio: Estimate
    busy: float | None


def _times(evidence: Evidence, where: Where, phase: str) -> dict[str, _Time]:
    """By model."""
    found: dict[str, _Time] = {}
    for timed in timed_in_turn(evidence, "quantization", where, phase):
        half = [one for one in timed if setting(one.record, "quantization") in _HALF_PRECISION]
        int8 = [one for one in timed if setting(one.record, "quantization") == "int8"]
        if half and int8:
            ratio = paired_ratio(int8[0].rounds_s, half[0].rounds_s)
            busy = busy_ratio(int8[0].record, half[0].record, phase)
            found[str(setting(int8[0].record, "model"))] = _Time(half[0].record, int8[0].record, ratio, busy)
    return found


INT8_CUTS_STATIC = Claim(
    id="int8-cuts-static",
    chapter="3.1, 3.3.1",
    title="8 bit cuts static memory",
    hypothesis="Loading in 8 bit halves static memory.",
    method="Static bytes of training cases in int8 and in 16 bits, alike in all else, are divided, and the ratio "
    "compared with the computed one: a byte a weight and an fp32 scale an output for linear layers, two bytes for "
    "embeddings, head and norms, four for adapters. Dynamic memory, step time and decode time (in turn) are its price; "
    "they are read at outlier threshold 0 where there is such a case, dynamic memory without checkpointing where there "
    "is such a case, and in that which pays most. A threshold above 0 is told beside the same case at 0, or with "
    "pretrained weights: of random ones the outlier columns are an accident. Rows without a ratio are for that and for "
    "checkpointing, and decide nothing. Where a GPU waits for its host, how long it had work (profiled once) tells "
    "more than the wall.",
    refuted_by="Static memory that is not cut, or is over 0.5% off the computed.",
    threshold=_HALF,
    threshold_text="At most 0.55 of 16 bits counts as half; what stays in 16 bits is then a tenth of the parameters at "
    "most. Above it the claim is conditional, and the bound is told model by model.",
    unit="int8 / 16-bit static bytes, the worst model",
    test=_cuts,
    figure=Figure(
        "bars", x="model", y="ratio", reference=0.5, x_label="", y_label="static memory in int8 / that in 16 bits"
    ),
    then="AutoModelForCausalLM.from_pretrained(name, load_in_8bit=True)",
    now="AutoModelForCausalLM.from_pretrained(name, quantization_config=BitsAndBytesConfig(load_in_8bit=True))",
    cause="bitsandbytes quantizes linear layers alone; transformers leaves the output head and what is tied to it. Its "
    "product keeps each layer's input for backward (ctx.tensors of MatMul8bitLt, bitsandbytes/autograd/_functions.py), "
    "which a frozen layer in 16 bits does not: that is the price in dynamic memory, and non-reentrant checkpointing "
    "cannot free it. A product is three launches where 16 bits has one (int8_vectorwise_quant, int8_linear_matmul, "
    "int8_mm_dequant): a decoded token waits for their launch, and the GPU's own time grows far less. A training step "
    "does more, as its code was read and not profiled: MatMul8bitLt.forward in bitsandbytes/autograd/_functions.py "
    "quantizes each layer's input and writes the product as int32 before it is scaled, and MatMul8bitLt.backward in "
    "bitsandbytes/autograd/_functions.py makes the whole weight 16 bits again, in a copy and a product by its scales, "
    "and multiplies in 16 bits: backward gains nothing from 8.",
    caveat={"cpu": "Only a GPU runs bitsandbytes' int8 kernels: a CPU's times in int8 say nothing about a GPU's."},
)
