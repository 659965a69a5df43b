"""What dropout on the adapter's input costs: a mask or noise, the dropped input, and the time to make them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorabench.analysis.claims.claim import Claim, Figure, Finding, not_tested
from lorabench.analysis.claims.evidence import Evidence, dynamic_bytes, keys, setting
from lorabench.analysis.claims.shapes import shapes_of
from lorabench.analysis.claims.timing import Comparison, busy_ratio, compare, timed_in_turn
from lorabench.analysis.claims.words import TIMED_IN_TURN, combined, mib, setup, split, told, without_unknown
from lorabench.record import Record

_AXIS = "adapter.dropout"
_WHERE = {"task": "train", "adapter.options": {}, "gradient_checkpointing": "none"}
_LIMIT = 1.10
_BLOCK_BYTES = 512
"""What a GPU's allocator rounds a small tensor up to."""
_LARGE_SLACK = 0.01


def _test(evidence: Evidence) -> Finding:
    pairs = [
        (zero, record)
        for records in evidence.series(_AXIS, _WHERE)
        for zero in [records[0]]
        for record in records[1:]
        if setting(zero, _AXIS) == 0 and dynamic_bytes(zero) and dynamic_bytes(record)
    ]
    if not pairs:
        return not_tested("training cases with and without dropout, alike in all else, with memory")
    times = _times(evidence)
    rows: list[Mapping[str, Any]] = []
    names: dict[str, list[str]] = {"holds": [], "fails": [], "unclear": [], "untimed": []}
    p_values: list[float] = []
    for zero, record in pairs:
        comparison = times.get((setup(record), setting(record, _AXIS)))
        outcome = _outcome(zero, record, comparison)
        if comparison is not None and (outcome == "holds" or comparison.standing == "above"):
            p_values.append(comparison.p_value)
        names[outcome].append(f"dropout {setting(record, _AXIS):g} on {setup(record)}")
        rows.append(_row(zero, record, comparison))
    evidence_keys = keys(record for pair in pairs for record in pair)
    if names["untimed"] and not names["fails"]:
        bytes_alone = "The bytes are there, but a verdict needs times: "
        finding = not_tested(TIMED_IN_TURN, evidence=evidence_keys)
        return Finding(
            "not tested",
            bytes_alone + _told(*pairs[0]),
            None,
            evidence=evidence_keys,
            missing=finding.missing,
            rows=without_unknown(rows, "GPU ratio"),
        )
    slowest = max(times.values(), key=lambda one: one.ratio.value, default=None)
    timed = ""
    if slowest is not None:
        low, high = slowest.ratio.ci95
        timed = f" A step takes at most {slowest.ratio.value:.3f} times as long [{low:.3f}, {high:.3f}]."
    return Finding(
        combined(names["holds"], names["fails"], names["unclear"]),
        _told(*pairs[0]) + timed,
        effect=None if slowest is None else slowest.ratio.value,
        ci95=None if slowest is None else slowest.ratio.ci95,
        n=None if slowest is None else slowest.ratio.n,
        condition=split(names["holds"], names["fails"]),
        evidence=evidence_keys,
        rows=without_unknown(rows, "GPU ratio"),
        p_value=max(p_values, default=None),
    )


def _times(evidence: Evidence) -> dict[tuple[str, float], Comparison]:
    found = {}
    for timed in timed_in_turn(evidence, _AXIS, _WHERE):
        ordered = sorted(timed, key=lambda one: setting(one.record, _AXIS))
        if setting(ordered[0].record, _AXIS) != 0:
            continue
        for one in ordered[1:]:
            name = setup(one.record), setting(one.record, _AXIS)
            found[name] = compare(one.rounds_s, ordered[0].rounds_s, _LIMIT)
    return found


def _outcome(zero: Record, record: Record, comparison: Comparison | None) -> str:
    if not _acts(record) or not _is_within(zero, record):
        return "fails"
    if comparison is None:
        return "untimed"
    return {"below": "holds", "above": "fails", "between": "unclear"}[comparison.standing]


def _acts(record: Record) -> bool:
    """Whether the built layers drop at the rate that was asked, and every adapter tensor still trains."""
    proof = record.proof
    if proof is None:
        return True
    gradients = proof.adapter_gradients
    trains = gradients is None or gradients.nonzero == gradients.expected
    return trains and proof.adapter_dropout in (None, setting(record, _AXIS))


def _computed(record: Record) -> int | None:
    """Bytes of what is kept for each number that goes into an adapted layer: mask or noise, dropped input in fp32."""
    shapes = shapes_of(record)
    layers = None if shapes is None else shapes.targets(setting(record, "adapter.target_modules"))
    if layers is None:
        return None
    numbers = (
        record.case["batch_size"] * record.case["sequence_length"] * sum(one.ingoing * one.copies for one in layers)
    )
    return int(numbers * ((4 if record.device.type == "cpu" else 1) + 4))


def _is_within(zero: Record, record: Record) -> bool:
    computed = _computed(record)
    if computed is None:
        return True
    tensors = 2 * (record.proof.adapter_modules if record.proof else 0)
    return dynamic_bytes(record) - dynamic_bytes(zero) <= computed * (1 + _LARGE_SLACK) + tensors * _BLOCK_BYTES


def _row(zero: Record, record: Record, comparison: Comparison | None) -> Mapping[str, Any]:
    computed = _computed(record)
    ratio = None if comparison is None else comparison.ratio
    return {
        "model": setup(record),
        "dropout": setting(record, _AXIS),
        "dynamic MiB without": mib(dynamic_bytes(zero)),
        "added MiB": mib(dynamic_bytes(record) - dynamic_bytes(zero)),
        "computed MiB": None if computed is None else mib(computed),
        "step ratio": None if ratio is None else ratio.value,
        "low": None if ratio is None else ratio.low,
        "high": None if ratio is None else ratio.high,
        "GPU ratio": None if ratio is None else busy_ratio(record, zero),
    }


def _told(zero: Record, record: Record) -> str:
    added, computed = dynamic_bytes(record) - dynamic_bytes(zero), _computed(record)
    of_computed = "" if computed is None else f" of the {told(computed)} that it may take at most"
    return (
        f"On {setup(record)}, dropout {setting(record, _AXIS):g} adds {told(added)} of dynamic memory{of_computed} "
        f"({100 * added / dynamic_bytes(zero):.1f}%)."
    )


DROPOUT_RATE = Claim(
    id="dropout-rate",
    chapter="2",
    title="Dropout can be used",
    hypothesis="Dropout on the adapter's input acts at the rate asked for, and costs no more memory than a mask (on a "
    "CPU, noise) and the dropped input of each adapted layer, and less than a tenth of the step's time.",
    method="Training cases with dropout 0 and above, alike in all else. The built dropout layers' rate is read; "
    "dynamic bytes are compared with a byte for the mask (on a CPU four for the noise) and four for the dropped input, "
    "for each number that goes into an adapted layer; step times are taken in turn.",
    refuted_by="A rate that is not the one asked for, more bytes than computed, or a step that takes over a tenth "
    "longer.",
    threshold=_LIMIT,
    threshold_text="A step at most 1.10 times as long: a user would trade a tenth for a regularised adapter, and "
    "noise between processes is smaller. Bytes within 1% and 512 bytes a tensor above what is computed, for a GPU's "
    "allocator rounds.",
    unit="step time with / without dropout",
    test=_test,
    figure=Figure(
        "points",
        x="dropout",
        y="step ratio",
        series="model",
        low="low",
        high="high",
        reference=1.0,
        x_label="dropout",
        y_label="step time / that without dropout",
    ),
    cause="Linear.forward in peft/tuners/lora/layer.py drops the input after casting it to the adapter's dtype, as a "
    "rule fp32, and the product with A keeps the dropped input in place of the cast one. For its gradient nn.Dropout "
    "keeps a mask of one byte an element on a GPU (native_dropout), and on a CPU, where it multiplies by noise of its "
    "input's dtype, as many bytes as that has (_dropout_impl in ATen/native/Dropout.cpp). The rate decides on a CPU "
    "alone: one that is not Intel's draws the mask number by number (bernoulli_scalar_kernel in "
    "ATen/native/cpu/DistributionKernels.cpp), which took 2.6 times as long at 0.5 as at 0.05, and as long at 0.25 as "
    "at 0.75: branches that cannot be foreseen (timed apart on an AMD EPYC, torch 2.13; not among the records).",
    caveat={"cpu": "Only a GPU shows what the extra kernels' launches cost: a CPU has none."},
)
