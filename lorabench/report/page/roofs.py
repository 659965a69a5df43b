"""How near each time is to the device's limits, as the report shows it: ceilings, and a row for each phase."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lorabench.analysis.roofline import COPY, Ceilings, Lack, Roof, ceilings_of, rooflines, without_limit
from lorabench.report.page.material import Material, by_device
from lorabench.report.page.quantities import Table, number, table
from lorabench.wording import counted

MOST_ROWS = 120
"""Phases that the page shows; ``roofline.csv`` has all."""
COLUMNS = (
    *("key", "name", "device", "phase", "flops", "moved_bytes", "compute_s", "memory_s"),
    *("limit_s", "median_s", "share", "bound", "environment"),
)
# Of several phases, and of one.
_REASONS: Mapping[Lack, tuple[str, str]] = {
    "work": ("their work was not counted", "its work was not counted"),
    "ceiling": (
        "a ceiling that they need was not measured in their environment",
        "a ceiling that it needs was not measured in its environment",
    ),
}


@dataclass(frozen=True)
class Roofs:
    """``ceilings`` has a row for each environment, ``detail`` one for each phase of each case, in reading order.

    ``lacking`` says in sentences how many timed phases have no limit, and why. All are of ``device``, which is None
    where the report has no other.
    """

    device: str | None
    roofs: tuple[Roof, ...]
    ceilings: Table
    detail: Table
    lacking: tuple[str, ...]


def roofs(material: Material) -> tuple[Roofs, ...]:
    """One for each device with timed phases; none at all where no phase of any device has a limit."""
    found = [_roofs(device, part) for device, part in by_device(material)]
    return tuple(one for one in found if one.roofs or one.lacking) if any(one.roofs for one in found) else ()


def _roofs(device: str | None, material: Material) -> Roofs:
    records = [entry.record for entry in material.entries]
    found = rooflines(records)
    used = {roof.record.environment for roof in found}
    return Roofs(
        device=device,
        roofs=tuple(found),
        ceilings=table(
            [
                {
                    "device": material.environments[name].device.name,
                    "environment": name,
                    **_ceilings(ceilings),
                }
                for name, ceilings in ceilings_of(records).items()
                if name in used
            ],
            MOST_ROWS,
        ),
        detail=table([_row(roof) for roof in found], MOST_ROWS),
        lacking=tuple(_lacking(without_limit(records), len(found))),
    )


def _lacking(lacks: Mapping[Lack, int], limited: int) -> Iterator[str]:
    timed = counted(limited + sum(lacks.values()), "timed phase")
    for lack, count in lacks.items():
        several, one = _REASONS[lack]
        have, reason = ("has", one) if count == 1 else ("have", several)
        yield f"{number(count)} of {timed} {have} no limit: {reason}."


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
