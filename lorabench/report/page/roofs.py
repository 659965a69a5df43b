"""How near each time is to the device's limits, as the report shows it: ceilings, and a row for each phase."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from lorabench.analysis.roofline import COPY, Ceilings, Roof, ceilings_of, rooflines
from lorabench.report.page.material import Material, by_device
from lorabench.report.page.quantities import Table, table

MOST_ROWS = 120
"""Phases that the page shows; ``roofline.csv`` has all."""
COLUMNS = (
    *("key", "name", "device", "phase", "flops", "moved_bytes", "compute_s", "memory_s"),
    *("limit_s", "median_s", "share", "bound", "environment"),
)


@dataclass(frozen=True)
class Roofs:
    """``ceilings`` has a row for each machine, ``detail`` one for each phase of each case, in reading order.

    All are of ``device``, which is None where the report has no other.
    """

    device: str | None
    roofs: tuple[Roof, ...]
    ceilings: Table
    detail: Table


def roofs(material: Material) -> tuple[Roofs, ...]:
    """One for each device on which work was counted."""
    return tuple(
        _roofs(device, part, found)
        for device, part in by_device(material)
        if (found := rooflines(entry.record for entry in part.entries))
    )


def _roofs(device: str | None, material: Material, found: Sequence[Roof]) -> Roofs:
    used = {roof.record.environment for roof in found}
    return Roofs(
        device=device,
        roofs=tuple(found),
        ceilings=table(
            [
                {"device": material.environments[name].device.name, **_ceilings(ceilings)}
                for name, ceilings in ceilings_of(entry.record for entry in material.entries).items()
                if name in used
            ],
            MOST_ROWS,
        ),
        detail=table([_row(roof) for roof in found], MOST_ROWS),
    )


def roofline_csv(roofs: Sequence[Roof]) -> str:
    """A line for each phase, in the order of the cases; seconds, operations, bytes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for roof in roofs:
        record = roof.record
        writer.writerow(
            (
                *(record.key, record.name, record.device.name, roof.phase, roof.flops, roof.moved_bytes),
                *(roof.compute_s, roof.memory_s, roof.limit_s, roof.median_s, roof.share, roof.bound),
                record.environment,
            )
        )
    return text.getvalue()


def _ceilings(ceilings: Ceilings) -> dict[str, object]:
    products = {f"{name}, GFLOP/s": speed / 1e9 for name, speed in sorted(ceilings.items()) if name != COPY}
    return {"copy, GB/s": ceilings[COPY] / 1e9, **products}


def _row(roof: Roof) -> dict[str, object]:
    return {
        "case": roof.record.name,
        "phase": roof.phase,
        "GFLOP": roof.flops / 1e9,
        "GB moved": roof.moved_bytes / 1e9,
        "limit_s": roof.limit_s,
        "set by": roof.bound,
        "median_s": roof.median_s,
        "reached, %": 100 * roof.share,
    }
