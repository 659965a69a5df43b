"""Loading in 8 bit: what it cuts, and what that costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorabench.analysis.claims.claim import Claim, Figure, Finding, Judgement, not_tested
from lorabench.analysis.claims.evidence import Evidence, Where, keys, setting
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
    dearest = max((pair for pair in every if _is_honest(pair) == _is_honest(dearest)), key=_dynamic_ratio)
    price = [f"dynamic memory {_span(row['dynamic ratio'] for row in rows)}{_told_dearest(dearest, rows)}"]
    price += [f"a step {_told_time(rows, 'step')}"] if any(row["step ratio"] for row in rows) else []
    price += [f"a decoded token {_told_time(rows, 'decode')}"] if decodes else []
    return Finding(
        verdict,
        f"int8 takes {_told_cuts(best, worst)}. The price, as a multiple of 16 bits: {', '.join(price)}."
        + _told_outliers(every, [*steps.values(), *decodes.values()]),
        effect=worst["ratio"],
        n=len(rows),
        condition=condition,
        evidence=keys(record for pair in (*pairs.values(), dearest) for record in pair),
        missing=() if steps else (TIMED_IN_TURN,),
        rows=without_unknown(rows, "step GPU ratio", "decode GPU ratio"),
    )


_Pair = tuple[Record, Record]
"""16 bits and int8, alike in all else."""


def _pairs(evidence: Evidence) -> list[_Pair]:
    return [
        pair
        for threshold in ({}, {"int8_threshold": (0.0,)})
        for dtype in _HALF_PRECISION
        for pair in evidence.pairs("quantization", dtype, "int8", {**_LOADED, **threshold})
        if all(_static(one) and _dynamic(one) for one in pair)
    ]


def _by_model(pairs: Sequence[_Pair]) -> dict[str, _Pair]:
    """One pair a model: without checkpointing, which has a price of its own; of several the one that pays most."""
    models = dict.fromkeys(str(setting(int8, "model")) for _, int8 in pairs)
    return {
        model: max((pair for pair in pairs if setting(pair[1], "model") == model), key=_preference) for model in models
    }


def _preference(pair: _Pair) -> tuple[bool, bool, float]:
    return _is_honest(pair), setting(pair[1], "gradient_checkpointing") == "none", _dynamic_ratio(pair)


def _is_honest(pair: _Pair) -> bool:
    """At outlier threshold 0: above it the dynamic bytes of random weights are an accident of the initialisation."""
    return bool(setting(pair[1], "int8_threshold") == 0)


def _told_cuts(best: Mapping[str, Any], worst: Mapping[str, Any]) -> str:
    cuts, computed = f"{best['ratio']:.3f} of 16-bit static memory on {best['model']}", f"{best['computed'] or 0:.3f}"
    if worst is not best:
        cuts += f" and {worst['ratio']:.3f} on {worst['model']}"
        computed += f" and {worst['computed'] or 0:.3f}"
    return f"{cuts}, as computed ({computed})"


def _told_dearest(pair: _Pair, rows: Sequence[Mapping[str, Any]]) -> str:
    """The highest price with checkpointing, where it is higher than without."""
    mode, ratio = setting(pair[1], "gradient_checkpointing"), _dynamic_ratio(pair)
    if mode == "none" or ratio <= max(row["dynamic ratio"] for row in rows):
        return ""
    return f" (with {mode} checkpointing up to {ratio:.2f}, on {setting(pair[1], 'model')})"


def _told_outliers(pairs: Sequence[_Pair], times: Sequence[_Time]) -> str:
    """Dynamic memory above outlier threshold 0, as by default; empty where the price itself is of such cases."""
    ratios = [_dynamic_ratio(pair) for pair in pairs if not _is_honest(pair)]
    if not ratios or len(ratios) == len(pairs):
        return ""
    what = "Dynamic memory" if any(setting(one.int8, "int8_threshold") for one in times) else "All of it"
    return (
        f" {what} at outlier threshold 0; at the default of 6, where outlier columns are multiplied apart, dynamic "
        f"memory is {_span(ratios)}."
    )


def _dynamic_ratio(pair: _Pair) -> float:
    half, int8 = pair
    return _dynamic(int8) / _dynamic(half)


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
        "16-bit static MiB": mib(_static(half)),
        "int8 static MiB": mib(_static(int8)),
        "ratio": _static(int8) / _static(half),
        "computed": computed,
        "quantized parameters, %": None if shapes is None else 100 * shapes.quantized / shapes.parameters,
        "outlier threshold": setting(int8, "int8_threshold"),
        "checkpointing": setting(int8, "gradient_checkpointing"),
        "bytes of": _workload(half),
        "dynamic ratio": _dynamic_ratio((half, int8)),
        "peak ratio": (_static(int8) + _dynamic(int8)) / (_static(half) + _dynamic(half)),
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
    told = _span(row[f"{phase} ratio"] for row in rows)
    return f"{told} (of the GPU's own time {_span(busy)})" if busy else told


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


def _span(values: Any) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "unknown"
    ends = f"{min(known):.2f}"
    return ends if max(known) - min(known) < 0.005 else f"{ends} to {max(known):.2f}"


def _static(record: Record) -> int:
    return (record.memory.static_bytes if record.memory else None) or 0


def _dynamic(record: Record) -> int:
    return (record.memory.dynamic_bytes if record.memory else None) or 0


INT8_CUTS_STATIC = Claim(
    id="int8-cuts-static",
    chapter="3.1, 3.3.1",
    title="8 bit cuts static memory",
    hypothesis="Loading in 8 bit halves static memory.",
    method="Static bytes of training cases in int8 and in 16 bits, alike in all else, are divided, and the ratio "
    "compared with the computed one: a byte a weight and an fp32 scale an output for linear layers, two bytes for "
    "embeddings, head and norms, four for adapters. Dynamic memory, step time and decode time (in turn) are its price; "
    "they are read at outlier threshold 0 where there is such a case, dynamic memory without checkpointing where there "
    "is such a case, and in that which pays most. Where a GPU waits for its host, how long it had work (profiled once) "
    "tells more than the wall.",
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
    "int8_mm_dequant): a decoded token waits for their launch, and the GPU's own time grows far less.",
    caveat={"cpu": "Only a GPU runs bitsandbytes' int8 kernels: a CPU's times in int8 say nothing about a GPU's."},
)
