"""What people use instead of a prediction, as the report shows it: how far off each is, and what it leaves out."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lorabench.analysis.estimates import (
    METHODS,
    Estimate,
    Method,
    MethodSummary,
    estimates,
    reasons,
    summarise,
    without_estimates,
)
from lorabench.report.page.material import Material, by_device
from lorabench.report.page.quantities import Table, table

FIGURE = "estimates"
MOST_ROWS = 120
"""Cases whose numbers the page shows; ``estimates.csv`` has all."""
COLUMNS = (
    *("key", "name", "device", "method", "estimated_bytes", "measured_bytes", "error", "absent"),
    *("predicted_environment", "measured_environment"),
)
NAMES: Mapping[Method, str] = {
    "prediction": "lorabench",
    "accelerate_weights": "accelerate, weights",
    "accelerate_training": "accelerate, training",
    "memory_tracker": "MemTracker",
    "arithmetic": "arithmetic",
}
LEFT_OUT: Mapping[Method, str] = {
    "prediction": "The prediction of this report. It leaves out what the CUDA context and the driver take beside "
    "PyTorch, which no method here counts.",
    "accelerate_weights": "The total size that accelerate estimate-memory prints: the bytes of all weights in one "
    "dtype. It leaves out the adapter, gradients, optimizer state, activations, logits and workspaces; in 8 and 4 bits "
    "it quantizes the embeddings and the head too, which stay in 16 bits.",
    "accelerate_training": "The same command's training with Adam: weights, gradients and two moments of every weight. "
    "It does not know that LoRA freezes the base, and leaves out activations and logits, so batch and length change "
    "nothing.",
    "memory_tracker": "PyTorch's MemTracker over two steps of the case on fake CPU tensors. It leaves out what the "
    "allocator rounds up, library workspaces and what CUDA kernels take inside, and sees the operators that a CPU "
    "runs: another attention, another int8 product. As it is it refuses frozen parameters; here it is told to let "
    "them pass.",
    "arithmetic": "Parameters times bytes, fp32 gradients and moments for what is trained, and 34 s b h bytes of "
    "activations a layer (Korthikanti et al. 2022; s positions, b sequences, width h). It leaves out logits and loss, "
    "the state of quantized weights, workspaces, and all in which a layer is not GPT-3's.",
}


@dataclass(frozen=True)
class Strip:
    """Errors of one method as the figure shows them, shares of what was measured: dense cases, quantized ones."""

    name: str
    dense: tuple[float, ...]
    quantized: tuple[float, ...]


@dataclass(frozen=True)
class Told:
    """One method in words, and why cases have no estimate of it."""

    name: str
    left_out: str
    absent: tuple[Absent, ...]


@dataclass(frozen=True)
class Absent:
    """``cases`` of ``device`` have no estimate, for one ``reason``; it is None where the report has no other."""

    reason: str
    cases: int
    device: str | None


@dataclass(frozen=True)
class Estimated:
    """``cases`` of ``device`` have estimates; ``without`` were predicted and measured, but predicted without them.

    ``device`` is None where the report has no other.
    """

    device: str | None
    cases: int
    without: int
    estimates: tuple[Estimate, ...]
    summary: Table
    detail: Table
    strips: tuple[Strip, ...]
    figure: str

    @property
    def description(self) -> str:
        return f"Error of each method's peak{f' on {self.device}' if self.device else ''}, one mark a case"


def estimated(material: Material) -> tuple[Estimated, ...]:
    """One for each device of which a case was measured, and predicted with estimates."""
    made: list[Estimated] = []
    for device, part in by_device(material):
        records = [entry.record for entry in part.entries]
        found = estimates(records)
        if found:
            figure = f"{FIGURE}-{len(made) + 1}" if made else FIGURE
            made.append(_estimated(device, found, without_estimates(records), figure))
    return tuple(made)


def told(estimated: Sequence[Estimated]) -> tuple[Told, ...]:
    """Each method once; its reasons are those of each device."""
    why = [(one.device, *reason) for one in estimated for reason in reasons(one.estimates)]
    return tuple(
        Told(
            NAMES[method],
            LEFT_OUT[method],
            tuple(Absent(reason, cases, device) for device, of, reason, cases in why if of == method),
        )
        for method in METHODS
    )


def _estimated(device: str | None, found: Sequence[Estimate], without: int, figure: str) -> Estimated:
    by_case = [found[start : start + len(METHODS)] for start in range(0, len(found), len(METHODS))]
    return Estimated(
        device=device,
        cases=len(by_case),
        without=without,
        estimates=tuple(found),
        summary=table([_summary_row(one) for one in summarise(found)], MOST_ROWS),
        detail=table([_row(members) for members in by_case], MOST_ROWS),
        strips=tuple(_strip(method, [one for one in found if one.method == method]) for method in METHODS),
        figure=figure,
    )


def estimates_csv(found: Sequence[Estimate]) -> str:
    """A line for each method of each case; ``error`` is a share, and empty where ``absent`` says why."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in found:
        writer.writerow(
            (
                *(one.measured.key, one.measured.name, one.measured.device.name, one.method),
                *(one.estimated_bytes, one.measured_bytes, one.error, one.absent),
                *(one.predicted.environment, one.measured.environment),
            )
        )
    return text.getvalue()


def _summary_row(one: MethodSummary) -> dict[str, object]:
    return {
        "method": NAMES[one.method],
        "cases": one.cases,
        "no estimate": one.absent,
        "median error, %": _percent(one.median_error, 2),
        "largest, %": _percent(one.largest_error, 2),
        "lowest, %": _percent(one.lowest, 2),
        "highest, %": _percent(one.highest, 2),
    }


def _row(members: Sequence[Estimate]) -> dict[str, object]:
    first = members[0]
    errors = {f"{NAMES[one.method]}, %": _percent(one.error, 3 if one.method == "prediction" else 1) for one in members}
    # The errors before the bytes that they are shares of: the end of a row may be out of sight.
    return {"case": first.measured.name, **errors, "measured peak_bytes": first.measured_bytes}


def _strip(method: Method, mine: Sequence[Estimate]) -> Strip:
    dense, quantized = (
        tuple(one.error for one in mine if one.error is not None and one.quantized == kind) for kind in (False, True)
    )
    return Strip(NAMES[method], dense, quantized)


def _percent(share: float | None, places: int) -> float | None:
    """Rounded, for a column has as many decimals as its smallest value needs."""
    return None if share is None else round(100 * share, places)
