"""What the rank of an adapter decides: its parameters, its bytes, and little else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorabench.analysis.claims.claim import Claim, Figure, Finding, not_tested
from lorabench.analysis.claims.evidence import Evidence, dynamic_bytes, keys, setting, static_bytes
from lorabench.analysis.claims.shapes import adapter_parameters, shapes_of
from lorabench.analysis.claims.words import combined, mib, setup, split, told
from lorabench.analysis.statistics import Estimate, Line, line
from lorabench.record import PhaseMemory, Record

_TOLERANCE = 1.0
"""% off the computed slope."""
_STEADY = {"task": "train", "optimizer": "adamw", "adapter.bias": "none", "adapter.options": {}}


def _test(evidence: Evidence) -> Finding:
    series = _series(evidence)
    if not series:
        return not_tested("training cases alike in all but the rank, three ranks or more, with proof and memory")
    rows: list[Mapping[str, Any]] = []
    names: dict[str, list[str]] = {"holds": [], "fails": [], "unclear": []}
    sentences, slopes = [], []
    for ranks in series:
        exact, slope = _parameters_are_exact(ranks)
        item_bytes = _item_bytes(ranks[0])
        off = [_off(fit, computed) for fit, computed in _byte_lines(ranks, item_bytes).values()]
        outcome = "holds" if exact else "fails"
        for estimate in off:
            if estimate.low > _TOLERANCE or estimate.high < -_TOLERANCE:
                outcome = "fails"
            elif max(estimate.high, -estimate.low) > _TOLERANCE and outcome == "holds":
                outcome = "unclear"
        names[outcome].append(setup(ranks[0]))
        slopes += off
        rows += [_row(record, ranks[0], slope, item_bytes) for record in ranks]
        sentences.append(_told(ranks, slope, exact))
    worst = max(slopes, key=lambda one: abs(one.value))
    return Finding(
        combined(names["holds"], names["fails"], names["unclear"]),
        f"{' '.join(sentences)} Weights, gradients and optimizer state grow with the rank as computed, to "
        f"{abs(worst.value):.2g}%.",
        effect=worst.value,
        ci95=worst.ci95,
        n=sum(len(ranks) for ranks in series),
        condition=split(names["holds"], names["fails"]),
        evidence=keys(record for ranks in series for record in ranks),
        rows=tuple(rows),
    )


def _series(evidence: Evidence) -> list[list[Record]]:
    """For each model and form of weights the longest series; alpha changes neither parameters nor bytes."""
    longest: dict[str, list[Record]] = {}
    for records in evidence.series("adapter.rank", _STEADY, ignoring=("adapter.alpha",)):
        ranks = [record for record in records if _is_complete(record)]
        if len(ranks) > max(2, len(longest.get(setup(records[0]), []))):
            longest[setup(records[0])] = ranks
    return list(longest.values())


def _off(fit: Line, computed: float) -> Estimate:
    """How far a slope is from the computed one, %."""
    value, low, high = (100 * (slope / computed - 1) for slope in (fit.slope, *fit.slope_ci95))
    return Estimate(value, low, high, fit.n)


def _is_complete(record: Record) -> bool:
    has_memory = record.memory is not None and record.memory.static_bytes and record.memory.dynamic_bytes is not None
    return bool(has_memory and record.proof is not None and record.proof.trainable_parameters)


def _parameters_are_exact(ranks: list[Record]) -> tuple[bool, int]:
    """Whether parameters are r times one number, and that the sum of in + out where shapes are known; that number."""
    counts = [(setting(record, "adapter.rank"), _trainable(record)) for record in ranks]
    slope = counts[0][1] // counts[0][0]
    shapes = shapes_of(ranks[0])
    layers = None if shapes is None else shapes.targets(setting(ranks[0], "adapter.target_modules"))
    if layers is not None:
        slope = adapter_parameters(layers, 1)
    return all(trainable == rank * slope for rank, trainable in counts), slope


def _byte_lines(ranks: list[Record], item_bytes: int) -> dict[str, tuple[Line, float]]:
    """Static bytes, gradients and optimizer state by rank: the line through them, and the slope that is computed."""
    per_rank = item_bytes * _trainable(ranks[0]) / setting(ranks[0], "adapter.rank")
    # AdamW keeps two moments in the parameter's own dtype (Loshchilov and Hutter 2019, algorithm 2).
    measured: dict[str, tuple[list[int | None], float]] = {
        "static": ([static_bytes(record) for record in ranks], per_rank),
        "gradients": ([_gradients(record) for record in ranks], per_rank),
        "optimizer": ([_optimizer(record) for record in ranks], 2 * per_rank),
    }
    ones = [setting(record, "adapter.rank") for record in ranks]
    return {
        name: (line(ones, [value for value in values if value]), computed)
        for name, (values, computed) in measured.items()
        if all(values)
    }


def _row(record: Record, smallest: Record, slope: int, item_bytes: int) -> dict[str, Any]:
    rank = setting(record, "adapter.rank")
    gradients, optimizer = _gradients(record), _optimizer(record)
    total = record.proof.total_parameters if record.proof else 0
    return {
        "model": setup(record),
        "rank": rank,
        "parameters": _trainable(record),
        "r x (in + out)": rank * slope,
        "share of all, %": 100 * _trainable(record) / total if total else None,
        "static MiB": mib(static_bytes(record)),
        "adapter MiB": mib(item_bytes * _trainable(record)),
        "gradients MiB": None if gradients is None else mib(gradients),
        "optimizer MiB": None if optimizer is None else mib(optimizer),
        "dynamic MiB": mib(dynamic_bytes(record)),
        "total against the lowest rank": (static_bytes(record) + dynamic_bytes(record))
        / (static_bytes(smallest) + dynamic_bytes(smallest)),
    }


def _told(ranks: list[Record], slope: int, exact: bool) -> str:
    first, last = ranks[0], ranks[-1]
    equals = "equal" if exact else "do not equal"
    static, dynamic = (size(last) - size(first) for size in (static_bytes, dynamic_bytes))
    return (
        f"On {setup(first)}, adapter parameters {equals} rank x {slope:,}; from rank {setting(first, 'adapter.rank')} "
        f"to {setting(last, 'adapter.rank')} static memory grows by {told(static)} "
        f"({100 * static / static_bytes(first):.1f}%) and dynamic by {told(dynamic)}."
    )


def _item_bytes(record: Record) -> int:
    """Of an adapter parameter: PEFT casts 16-bit adapters to fp32 unless it is told not to."""
    dtype = setting(record, "quantization")
    kept = setting(record, "compute_dtype") if dtype in ("int8", "nf4") else dtype
    return 2 if kept in ("fp16", "bf16") and not setting(record, "adapter.autocast_adapter_dtype") else 4


def _trainable(record: Record) -> int:
    return record.proof.trainable_parameters if record.proof else 0


def _gradients(record: Record) -> int | None:
    """What a steady step holds after the backward pass and did not before the forward pass."""
    phases: Mapping[str, PhaseMemory] = record.memory.phases if record.memory else {}
    if "forward" not in phases or "backward" not in phases:
        return None
    return phases["backward"].after_bytes - phases["forward"].before_bytes


def _optimizer(record: Record) -> int | None:
    return sum(record.proof.optimizer_state_dtypes.values()) if record.proof else None


RANK_SETS_WIDTH = Claim(
    id="rank-sets-width",
    chapter="2",
    title="The rank sets the width",
    hypothesis="The rank is the width between A and B: an adapter has exactly r (in + out) parameters a layer, and its "
    "weights, gradients and optimizer state take memory in proportion to r.",
    method="Training cases that differ in the rank alone. Trained parameters are compared with r times the sum of "
    "in + out over the adapted layers, to the last one. A line is fitted to static bytes, to the bytes that the "
    "backward pass leaves (gradients) and to the optimizer's state, and its slope compared with the computed one.",
    refuted_by="One parameter more or less than computed at any rank, or bytes that grow by over 1% more or less than "
    "computed.",
    threshold=_TOLERANCE,
    threshold_text="Parameters: exactly. Bytes for each rank: within 1% of the computed slope, because a GPU's "
    "allocator rounds each tensor up to 512 bytes and may leave up to 1 MiB of a large block unused.",
    unit="% off the computed bytes a rank",
    test=_test,
    figure=Figure(
        "lines",
        x="rank",
        y="total against the lowest rank",
        series="model",
        reference=1.0,
        x_label="rank",
        y_label="static + dynamic memory / that at the lowest rank",
        log_x=True,
    ),
    caveat={"cpu": "Only a GPU shows what the allocator's rounding adds."},
)
