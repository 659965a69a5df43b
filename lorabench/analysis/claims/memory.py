"""What sets static memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lorabench.analysis.claims.claim import Claim, Figure, Finding, not_tested
from lorabench.analysis.claims.evidence import Evidence, keys, setting, static_bytes
from lorabench.analysis.claims.shapes import shapes_of
from lorabench.analysis.claims.words import combined, mib, setup, split
from lorabench.record import Record

_STATIC_LIMIT = 0.5
"""% off the computed bytes."""
_TRAIN = {"task": "train"}
_ADAPTED = {"task": "train", "adapter": lambda adapter: adapter is not None}


def _static_test(evidence: Evidence) -> Finding:
    found = [(record, computed) for record in evidence.where(_TRAIN) if (computed := _computed(record)) is not None]
    missing = [f"training cases that differ in {axis} alone" for axis in _SAME if not _spreads(evidence, axis)]
    if not found or missing:
        return not_tested(
            *(missing or ["training cases with proof and memory"]), evidence=keys(one for one, _ in found)
        )
    groups: dict[str, list[tuple[Record, int]]] = {}
    for record, computed in found:
        prepared = " prepared" if setting(record, "kbit_preparation") else ""
        options = setting(record, "adapter.options")
        variant = f" with {', '.join(sorted(options))}" if isinstance(options, Mapping) and options else ""
        groups.setdefault(f"{setup(record)}{prepared}{variant}", []).append((record, computed))
    rows = [_static_row(name, group) for name, group in groups.items()]
    failing = [row["model"] for row in rows if abs(row["off, %"]) > _STATIC_LIMIT]
    holding = [row["model"] for row in rows if row["model"] not in failing]
    for axis, name in _SAME.items():
        spread = max(_spreads(evidence, axis))
        if spread > (_STATIC_LIMIT / 100 if axis == "adapter.rank" else 0):
            failing.append(f"a changing {name} ({100 * spread:.2g}% apart)")
    worst = max(rows, key=lambda row: abs(row["off, %"]))
    apart = max(_spreads(evidence, "adapter.rank"))
    same = "the same" if not apart else f"the same to {100 * apart:.2g}%"
    return Finding(
        combined(holding, failing),
        f"In {len(found)} cases of {len(groups)} models and forms of weights, static memory is at most "
        f"{abs(worst['off, %']):.2g}% off parameters x bytes each, quantization state included ({worst['model']})."
        + (
            ""
            if len(failing)
            else f" It is equal at every batch size and length, and {same} at every rank less adapters."
        ),
        effect=worst["off, %"],
        n=len(found),
        condition=split(holding, failing),
        evidence=keys(record for record, _ in found),
        rows=tuple(rows),
    )


_SAME = {"batch_size": "batch size", "sequence_length": "length", "adapter.rank": "rank"}


def _computed(record: Record) -> int | None:
    """Bytes of all parameters as they are stored, with the state of quantized ones; None where it cannot be told."""
    proof = record.proof
    if proof is None or not proof.parameter_dtypes or not static_bytes(record):
        return None
    parameters = sum(proof.parameter_dtypes.values())
    quantization = setting(record, "quantization")
    if quantization not in ("int8", "nf4"):
        return parameters
    shapes = shapes_of(record)
    if shapes is None:
        return None
    double = bool(setting(record, "double_quantization"))
    weights = shapes.quantized if quantization == "int8" else shapes.quantized // 2
    return parameters + shapes.quantized_bytes(quantization, double=double) - weights


def _spreads(evidence: Evidence, axis: str) -> list[float]:
    """Of each series over ``axis``, how far its static bytes lie apart, adapters' own taken off, as a share of them."""
    ignoring = ("adapter.alpha",) if axis == "adapter.rank" else ()
    spreads = []
    for records in evidence.series(axis, _ADAPTED, ignoring=ignoring):
        base = [static_bytes(record) - _adapter_bytes(record) for record in records if static_bytes(record)]
        if len(base) > 1:
            spreads.append((max(base) - min(base)) / max(max(base), 1))
    return spreads


def _adapter_bytes(record: Record) -> int:
    """Trained parameters in fp32, which PEFT casts them to; in the base's dtype where it is told not to."""
    dtype = setting(record, "quantization")
    kept = setting(record, "compute_dtype") if dtype in ("int8", "nf4") else dtype
    item_bytes = 2 if kept in ("fp16", "bf16") and not setting(record, "adapter.autocast_adapter_dtype") else 4
    return item_bytes * (record.proof.trainable_parameters if record.proof else 0)


def _static_row(name: str, group: Sequence[tuple[Record, int]]) -> dict[str, Any]:
    record, computed = max(group, key=lambda one: abs(static_bytes(one[0]) / one[1] - 1))
    return {
        "model": name,
        "cases": len(group),
        "parameters, millions": record.proof.total_parameters / 1e6 if record.proof else None,
        "computed MiB": mib(computed),
        "static MiB": mib(static_bytes(record)),
        "off, %": 100 * (static_bytes(record) / computed - 1),
    }


STATIC_FOLLOWS_PARAMETERS = Claim(
    id="static-follows-parameters",
    chapter="3.2",
    title="Parameters set static memory",
    hypothesis="Static memory is the bytes of the parameters as they are stored, with the state of quantized ones, and "
    "nothing else: it is the same at every batch size and length, and at every rank once the adapter is taken off.",
    method="The bytes of all parameters by dtype are summed, and for int8 an fp32 scale for each output added, for nf4 "
    "a scale for each 64 weights. Static bytes are compared with that sum in every training case, and with each other "
    "where cases differ in batch size, length or rank alone.",
    refuted_by="Static memory over 0.5% off the sum, or one that changes with the batch size or the length.",
    threshold=_STATIC_LIMIT,
    threshold_text="Within 0.5%: a GPU's allocator rounds each tensor up to 512 bytes and may leave up to 1 MiB of a "
    "large block unused, which could come to 0.48% of a 13B model. Equal to the byte over batch sizes and lengths.",
    unit="% off the computed bytes",
    test=_static_test,
    figure=Figure("bars", x="model", y="off, %", x_label="", y_label="static memory, % off the computed"),
    cause="What lies above the sum on a GPU is slack: c10/cuda/CUDACachingAllocator.cpp (should_split) leaves up to 1 "
    "MiB of a large block unused, and nf4 weights of a few MiB lie in blocks that their 16-bit originals left. With "
    "DoRA it is also a workspace of cuBLAS: DoraLinearLayer.update_layer in peft/tuners/lora/dora.py multiplies A and "
    "B for the weight's norm while it attaches.",
    caveat={"cpu": "A CPU has no allocator that rounds: there it is exact but for buffers of a few bytes."},
)
