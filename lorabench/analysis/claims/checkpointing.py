"""Gradient checkpointing: what it frees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lorabench.analysis.claims.claim import Claim, Figure, Finding, not_tested
from lorabench.analysis.claims.evidence import Evidence, dynamic_bytes, keys, outliers_by_chance, setting, static_bytes
from lorabench.analysis.claims.words import combined, listed, mib
from lorabench.record import Record

AXIS = "gradient_checkpointing"
MODES = ("reentrant", "non-reentrant")
_WEIGHTS = ("fp32", "fp16", "bf16", "nf4", "int8")
# transformers 5.17 has only the older name; 5.23 has both and warns of the older one.
TODAYS_CALL = (
    'model.activation_checkpointing_enable({"use_reentrant": False}), or in an older transformers 5 '
    'model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False}); with int8 '
    '{"use_reentrant": True}'
)
_CUT = 0.90
"""Dynamic bytes with / without: above it nothing worth a longer step is freed."""
_SHARE = 0.90
"""Of the bytes that the better mode frees, those that a mode must free to count as working."""


def _cuts(evidence: Evidence) -> Finding:
    series = _alike(evidence, {"task": "train", "use_cache": False})
    rows = [_cut_row(record, records) for records in series for record in records if setting(record, AXIS) in MODES]
    deciding = [row for row in rows if row["decides"]]
    records = [record for one in series for record in one]
    if not deciding:
        return not_tested(
            "training cases with and without gradient checkpointing, alike in all else, dense or int8 at threshold 0",
            evidence=keys(records),
        )
    holding = [row for row in deciding if _is_cut(row)]
    failing = [row for row in deciding if not _is_cut(row)]
    worst = max(deciding, key=lambda row: row["ratio"])
    best = min(deciding, key=lambda row: row["ratio"])
    stays = all(row["static unchanged"] for row in deciding)
    return Finding(
        combined([row["case"] for row in holding], [row["case"] for row in failing]),
        f"Dynamic memory falls to {best['ratio']:.3f} of what it is without ({best['case']}, {best['model']})"
        + (
            ""
            if best is worst
            else f" at best and to {worst['ratio']:.3f} ({worst['case']}, {worst['model']}) at worst"
        )
        + f"; static memory {'stays the same to the byte' if stays else 'changes'}."
        + _shortfall(failing)
        + _told_whole(rows),
        effect=worst["ratio"],
        n=len(deciding),
        condition=_by_weights(holding, failing) if holding and failing else None,
        evidence=keys(records),
        rows=tuple(rows),
    )


def _alike(evidence: Evidence, where: Mapping[str, Any]) -> list[list[Record]]:
    """Series over checkpointing that begin without it, every outlier threshold by itself, with memory."""
    found = []
    for records in evidence.series(AXIS, where):
        complete = [
            record for record in records if dynamic_bytes(record) and record.memory and record.memory.static_bytes
        ]
        if len(complete) > 1 and any(setting(record, AXIS) == "none" for record in complete):
            found.append(complete)
    return sorted(found, key=lambda one: _WEIGHTS.index(setting(one[0], "quantization")))


def _plain(records: Sequence[Record]) -> Record:
    return next(record for record in records if setting(record, AXIS) == "none")


def _cut_row(record: Record, alike: Sequence[Record]) -> dict[str, Any]:
    plain = _plain(alike)
    freed = {one.key: dynamic_bytes(plain) - dynamic_bytes(one) for one in alike if one is not plain}
    most = max(freed.values())
    quantization, threshold = setting(record, "quantization"), setting(record, "int8_threshold")
    if quantization == "int8":
        quantization = f"int8 at threshold {threshold:g}"
    shares = list(record.proof.outlier_share.values()) if record.proof else []
    has_adapter = record.case.get("adapter") is not None
    return {
        "case": f"{quantization} {setting(record, AXIS)}",
        "trained": "adapter" if has_adapter else "all weights",
        "model": f"{setting(record, 'model')}, {setting(record, 'batch_size')} x {setting(record, 'sequence_length')}",
        "weights": quantization if has_adapter else f"{quantization} all",
        "mode": setting(record, AXIS),
        "without MiB": mib(dynamic_bytes(plain)),
        "with MiB": mib(dynamic_bytes(record)),
        "ratio": dynamic_bytes(record) / dynamic_bytes(plain),
        "share of the better mode": freed[record.key] / most if most > 0 else None,
        "static unchanged": static_bytes(record) == static_bytes(plain),
        "outlier share": sum(shares) / len(shares) if shares else None,
        "decides": has_adapter and not outliers_by_chance(record),
    }


def _is_cut(row: Mapping[str, Any]) -> bool:
    share = row["share of the better mode"]
    return row["ratio"] <= _CUT and share is not None and share >= _SHARE and row["static unchanged"]


def _shortfall(failing: Sequence[Mapping[str, Any]]) -> str:
    short = [row for row in failing if row["share of the better mode"] is not None]
    short = [row for row in short if row["share of the better mode"] < _SHARE]
    if not short:
        return ""
    worst = min(short, key=lambda row: row["share of the better mode"])
    return (
        f" {worst['case']} frees only {100 * worst['share of the better mode']:.0f}% of what the other mode frees "
        f"({worst['model']})."
    )


def _told_whole(rows: Sequence[Mapping[str, Any]]) -> str:
    """What is left where all weights train, in a sentence; empty where they do in no case."""
    whole = sorted((row for row in rows if row["trained"] == "all weights"), key=lambda row: row["ratio"])
    if not whole:
        return ""
    ends = dict.fromkeys(f"{row['ratio']:.3f} ({row['model']})" for row in (whole[0], whole[-1]))
    return (
        f" With all weights trained it falls to {' and '.join(ends)}: gradients, optimizer state and what its step "
        "takes do not shrink, and with few tokens they are the peak."
    )


def _by_weights(holding: Sequence[Mapping[str, Any]], failing: Sequence[Mapping[str, Any]]) -> str:
    """``under bf16 and nf4 in both modes; not under int8 at threshold 0 with non-reentrant checkpointing``."""
    lost = dict.fromkeys((row["weights"], row["mode"]) for row in failing)
    whole = [name for name in dict.fromkeys(row["weights"] for row in holding) if name not in {one for one, _ in lost}]
    kept = dict.fromkeys((row["weights"], row["mode"]) for row in holding if row["weights"] not in whole)
    parts = [f"under {listed(whole)}"] if whole else []
    parts += [f"under {name} with {mode} checkpointing" for name, mode in kept if (name, mode) not in lost]
    where = listed(parts) if parts else "in some cases"
    return f"{where}; not {listed(f'under {name} with {mode} checkpointing' for name, mode in lost)}"


CHECKPOINTING_CUTS_DYNAMIC = Claim(
    id="checkpointing-cuts-dynamic",
    chapter="3.3.2",
    title="Checkpointing cuts dynamic memory",
    hypothesis="Gradient checkpointing cuts the dynamic memory of training an adapter by a tenth at least and leaves "
    "static memory alone, in both modes and whatever the base weights are stored in.",
    method="Training cases with reentrant, non-reentrant and no checkpointing, alike in all else. Dynamic bytes with "
    "it are divided by those without; what each mode frees is compared with what the other frees; static bytes must be "
    "equal. int8 on random weights decides at outlier threshold 0 alone; cases that train all weights are told and "
    "decide nothing.",
    refuted_by="Dynamic memory that stays above 90%, a mode that frees under 90% of what the other one frees, or "
    "static memory that changes.",
    threshold=_CUT,
    threshold_text="Dynamic memory at most 0.90 of that without: less is no return for a step that takes half as long "
    "again. And 90% of what the other mode frees, for both recompute the same layers.",
    unit="dynamic bytes with / without, the worst case",
    test=_cuts,
    figure=Figure(
        "bars",
        x="weights",
        y="ratio",
        series="mode",
        reference=1.0,
        x_label="base weights",
        y_label="dynamic memory / that without checkpointing",
    ),
    then="model.gradient_checkpointing_enable()",
    now=TODAYS_CALL,
    cause="bitsandbytes' int8 matmul keeps its input as a plain attribute of the autograd context (ctx.tensors in "
    "MatMul8bitLt, ctx.A in MatMul8bitFp; bitsandbytes/autograd/_functions.py), not by save_for_backward, and "
    "non-reentrant checkpointing frees only what saved-tensor hooks see. nf4's MatMul4Bit keeps no input. Followed "
    "tensor by tensor (Llama-3.2-1B on CUDA's path, predicted, 4 x 512, threshold 0), 939,524,096 bytes stay alive "
    "that reentrant checkpointing frees: in all of 16 layers the input of down_proj (536,870,912 bytes) and the inputs "
    "of query, key and value, of o_proj, and of gate and up (134,217,728 bytes each).",
    caveat={"cpu": "On a CPU bitsandbytes takes another int8 product than on a GPU; only a GPU shows its bytes."},
)
