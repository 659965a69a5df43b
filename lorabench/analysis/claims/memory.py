"""What sets static memory, and what dynamic memory grows with."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from operator import eq
from typing import Any

from lorabench.analysis.claims.claim import Claim, Figure, Finding, not_tested
from lorabench.analysis.claims.evidence import Evidence, keys, setting
from lorabench.analysis.claims.shapes import shapes_of
from lorabench.analysis.claims.words import combined, listed, mib, setup, split
from lorabench.analysis.statistics import line
from lorabench.catalog import PRESETS
from lorabench.record import Record

_STATIC_LIMIT = 0.5
"""% off the computed bytes."""
_R_SQUARED = 0.99
_RESIDUAL = 0.05
_TRAIN = {"task": "train"}
_TARGETS = "adapter.target_modules"
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
    if proof is None or not proof.parameter_dtypes or not _static(record):
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
        base = [_static(record) - _adapter_bytes(record) for record in records if _static(record)]
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
    record, computed = max(group, key=lambda one: abs(_static(one[0]) / one[1] - 1))
    return {
        "model": name,
        "cases": len(group),
        "parameters, millions": record.proof.total_parameters / 1e6 if record.proof else None,
        "computed MiB": mib(computed),
        "static MiB": mib(_static(record)),
        "off, %": 100 * (_static(record) / computed - 1),
    }


def _static(record: Record) -> int:
    return (record.memory.static_bytes if record.memory else None) or 0


def _dynamic(record: Record) -> int:
    return (record.memory.dynamic_bytes if record.memory else None) or 0


def _total(record: Record) -> int:
    return record.proof.total_parameters if record.proof else 0


def _dynamic_test(evidence: Evidence) -> Finding:
    batches = _longest(evidence, "batch_size", at_least=3)
    families = _families(evidence)
    lengths = _longest(evidence, "sequence_length", at_least=2)
    missing = [] if batches else ["training cases that differ in the batch size alone, three or more"]
    missing += [] if families else ["training cases of two presets of one family at one batch size and length"]
    of_models = [record for series in families.values() for records in series for record in records]
    if missing:
        return not_tested(*missing, evidence=keys(_flat(batches) + of_models))
    rows: list[Mapping[str, Any]] = []
    holding: list[str] = []
    failing: list[str] = []
    sentences, fits, told = [], [], []
    for name, records in batches.items():
        fit = line([setting(one, "batch_size") for one in records], [_dynamic(one) for one in records])
        is_line = fit.r_squared >= _R_SQUARED and fit.largest_residual <= _RESIDUAL and fit.slope > 0
        (holding if is_line else failing).append(f"the batch size ({name})")
        fits.append(fit.r_squared)
        sentences.append(
            f"On {name}, dynamic memory grows by {mib(fit.slope):.4g} MiB with each sequence of the batch beside a "
            f"fixed {mib(fit.intercept):.3g} MiB (R2 {fit.r_squared:.5f}, at most {100 * fit.largest_residual:.2g}% "
            "off the line)."
        )
        rows += _growth(f"batch size, {name}", [setting(one, "batch_size") for one in records], records)
    for where, series in families.items():
        grown = [records for records in series if _grows(records)]
        (holding if len(grown) == len(series) else failing).append(f"model size {where}")
        shown = max(series, key=lambda records: (len(records), -_least_growth(records)))
        told.append(f"in {len(grown)} of {len(series)} series {where} ({_told_growth(shown)})")
        rows += _growth(_models_name(shown[0]), [_total(one) for one in shown], shown)
    sentences.append(f"Over models of a family it grows at every size {listed(told)}.")
    for name, records in lengths.items():
        order = _order(records)
        sentences.append(f"With the sequence it grows as length^{order:.2f} at the end ({name}).")
        rows += _growth(f"length, {name}", [setting(one, "sequence_length") for one in records], records)
    records = _flat(batches) + of_models + _flat(lengths)
    return Finding(
        combined(holding, failing),
        " ".join(sentences),
        effect=min(fits),
        n=len(records),
        condition=f"with {listed(holding)}; not with {listed(failing)}" if holding and failing else None,
        evidence=keys(records),
        rows=tuple(rows),
    )


def _flat(found: Mapping[str, Sequence[Record]]) -> list[Record]:
    return [record for records in found.values() for record in records]


def _longest(evidence: Evidence, axis: str, *, at_least: int) -> dict[str, list[Record]]:
    """For each set-up the longest series over ``axis`` with memory."""
    found: dict[str, list[Record]] = {}
    for records in evidence.series(axis, _ADAPTED):
        alike = _complete(records)
        name = _series_name(alike[0], axis) if alike else ""
        if len(alike) >= max(at_least, len(found.get(name, [])) + 1):
            found[name] = alike
    return found


def _complete(records: Sequence[Record]) -> list[Record]:
    return [record for record in records if _dynamic(record) and _total(record)]


def _families(evidence: Evidence) -> dict[str, list[list[Record]]]:
    """All series over models of one family, by size, that are alike in all else; with and without checkpointing.

    Apart, because it leaves little of the layers, and more of the logits. One set of target modules at a time: they may
    follow the model, and are not compared here.
    """
    targets = {json.dumps(setting(record, _TARGETS)): setting(record, _TARGETS) for record in evidence.where(_ADAPTED)}
    found: dict[str, list[list[Record]]] = {}
    for mode, where in _CHECKPOINTING.items():
        for wanted in targets.values():
            alike = {**_ADAPTED, "gradient_checkpointing": mode, _TARGETS: partial(eq, wanted)}
            for records in map(_complete, evidence.series("model", alike)):
                for family in sorted({_family(record) for record in records} - {None}, key=str):
                    sizes = sorted((record for record in records if _family(record) == family), key=_total)
                    if len(sizes) > 1:
                        found.setdefault(where, []).append(sizes)
    return found


_CHECKPOINTING = {"none": "without checkpointing"} | {
    mode: f"with {mode} checkpointing" for mode in ("reentrant", "non-reentrant")
}


def _grows(records: Sequence[Record]) -> bool:
    return _least_growth(records) > 1


def _least_growth(records: Sequence[Record]) -> float:
    """Of each step to the next larger model, the least: dynamic bytes after by those before."""
    return min(_dynamic(after) / _dynamic(before) for before, after in pairwise(records))


def _told_growth(records: Sequence[Record]) -> str:
    """From the smallest to the largest model; where one step does not grow, that step."""
    ends = records[0], records[-1]
    if not _grows(records):
        ends = min(pairwise(records), key=lambda pair: _dynamic(pair[1]) / _dynamic(pair[0]))
    small, large = ends
    return (
        f"{setting(large, 'model')} takes {_dynamic(large) / _dynamic(small):.3g} times what {setting(small, 'model')} "
        f"does, of {_total(large) / _total(small):.3g} times the parameters"
    )


def _models_name(record: Record) -> str:
    mode = setting(record, "gradient_checkpointing")
    return f"models in {setting(record, 'quantization')}{'' if mode == 'none' else f', {mode}'}"


def _family(record: Record) -> str | None:
    preset = PRESETS.get(str(record.case.get("model")))
    return None if preset is None else preset.model_type


def _series_name(record: Record, axis: str) -> str:
    return f"{setup(record)}, {setting(record, 'attention')} attention" if axis == "sequence_length" else setup(record)


def _order(records: Sequence[Record]) -> float:
    """The power of the length that dynamic memory grows with between the two longest."""
    before, last = records[-2:]
    lengths = setting(last, "sequence_length") / setting(before, "sequence_length")
    return math.log(_dynamic(last) / _dynamic(before)) / math.log(lengths)


def _growth(name: str, sizes: Sequence[float], records: Sequence[Record]) -> list[dict[str, Any]]:
    return [
        {
            "series": name,
            "model": setting(record, "model"),
            "batch x length": f"{setting(record, 'batch_size')} x {setting(record, 'sequence_length')}",
            "times the smallest": size / sizes[0],
            "dynamic MiB": mib(_dynamic(record)),
            "times its dynamic": _dynamic(record) / _dynamic(records[0]),
        }
        for size, record in zip(sizes, records, strict=True)
    ]


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

DYNAMIC_FOLLOWS_BATCH = Claim(
    id="dynamic-follows-batch",
    chapter="3.2",
    title="Batch and size set dynamic memory",
    hypothesis="Dynamic memory grows in a straight line with the batch size, and with the size of the model at an "
    "equal batch.",
    method="A line is fitted to dynamic bytes by batch size: its slope is the price of one more sequence, its "
    "intercept what is paid once. At one batch size and length, dynamic bytes of models of one family are put "
    "in the order of their parameters, with checkpointing and without. The growth with the sequence's length is told "
    "too, for each kind of attention.",
    refuted_by="Bytes by batch size that are no line, or a larger model of the family that needs less.",
    threshold=_R_SQUARED,
    threshold_text="R2 at least 0.99 and no point over 5% off the line: libraries' workspaces and the allocator's "
    "blocks make steps of a few MiB. Growth with the model at every step.",
    unit="R2 of the line by batch size",
    test=_dynamic_test,
    figure=Figure(
        "lines",
        x="times the smallest",
        y="times its dynamic",
        series="series",
        x_label="batch size, parameters or length / the smallest",
        y_label="dynamic memory / that of the smallest",
        log_x=True,
    ),
    cause="Logits are vocabulary x tokens, and ForCausalLMLoss in transformers/loss/loss_utils.py widens them to "
    "fp32; log-softmax and the gradients make more of their size. Gradient checkpointing leaves little of the layers, "
    "and logits decide: a larger model with a vocabulary of 32,000 takes less there than a small one with 128,256.",
)
