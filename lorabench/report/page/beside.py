"""Predicted beside measured, as the report shows it: a summary in words, and every number in a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from lorabench.analysis.predicted import Comparison, Summary, compare, summarise
from lorabench.record import Record
from lorabench.report.page.material import Material, by_device
from lorabench.report.page.quantities import Table, table

MOST_ROWS = 120
"""Cases whose numbers the page shows; ``predictions.csv`` has all."""
COLUMNS = (
    *("key", "name", "device", "quantity", "predicted_bytes", "measured_bytes", "error_bytes", "error"),
    *("limit", "within_limit", "predicted_environment", "measured_environment"),
)


@dataclass(frozen=True)
class Beside:
    """``cases`` of ``device`` have both, each seed's by itself.

    ``summary`` has a row for each quantity, ``detail`` one for each number; ``device`` is None where the report has no
    other.
    """

    device: str | None
    cases: int
    comparisons: tuple[Comparison, ...]
    summary: Table
    detail: Table
    across_versions: bool


def beside(material: Material) -> tuple[Beside, ...]:
    """One for each device of which a case was both predicted and measured."""
    return tuple(
        _beside(device, part, comparisons)
        for device, part in by_device(material)
        if (comparisons := compare(entry.record for entry in part.entries))
    )


def _beside(device: str | None, material: Material, comparisons: Sequence[Comparison]) -> Beside:
    # What is farthest off comes first: that is what a reader must know.
    worst_first = sorted(comparisons, key=lambda one: abs(one.error) / (one.limit or 1e-9), reverse=True)
    return Beside(
        device=device,
        cases=len({(one.measured.key, one.measured.seed) for one in comparisons}),
        comparisons=tuple(comparisons),
        summary=table([_summary_row(one) for one in summarise(comparisons)], MOST_ROWS),
        detail=table([_row(one) for one in worst_first], MOST_ROWS),
        across_versions=any(
            _versions(material, one.predicted) != _versions(material, one.measured) for one in comparisons
        ),
    )


def predictions_csv(comparisons: Sequence[Comparison]) -> str:
    """A line for each number, in the order of the cases."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in comparisons:
        writer.writerow(
            (
                *(one.measured.key, one.measured.name, one.measured.device.name, one.quantity),
                *(one.predicted_bytes, one.measured_bytes, one.error_bytes, one.error),
                *(one.limit, one.within, one.predicted.environment, one.measured.environment),
            )
        )
    return text.getvalue()


def _summary_row(one: Summary) -> dict[str, object]:
    return {
        "memory": one.quantity,
        "weights": "int8, nf4" if one.quantized else "fp32, fp16, bf16",
        "cases": one.cases,
        # Digits below these say nothing here; predictions.csv has all.
        "median error, %": round(100 * one.median_error, 3),
        "largest, %": round(100 * one.largest_error, 3),
        "limit, %": 100 * one.limit,
        "within": one.within,
    }


def _row(one: Comparison) -> dict[str, object]:
    return {
        "case": one.measured.name,
        "memory": one.quantity,
        # Before the numbers that it comes from: names are long, and the end of a row may be out of sight.
        "error, %": 100 * one.error,
        "error_bytes": one.error_bytes,
        "predicted_bytes": one.predicted_bytes,
        "measured_bytes": one.measured_bytes,
        "within": one.within,
    }


def _versions(material: Material, record: Record) -> dict[str, str]:
    libraries = ("torch", "transformers", "peft", "bitsandbytes")
    versions = material.environments[record.environment].versions
    # A build's local part, "+cpu", is no other version.
    return {library: versions.get(library, "").partition("+")[0] for library in libraries}
