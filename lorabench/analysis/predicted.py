"""Predicted beside measured: the same case on the same card, once without a GPU and once on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, get_args

from lorabench.record import Memory, Record

Quantity = Literal["static", "peak allocated", "peak reserved"]
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)

DENSE: Mapping[Quantity, float] = {"static": 0.0, "peak allocated": 0.001, "peak reserved": 0.02}
QUANTIZED: Mapping[Quantity, float] = {"static": 0.01, "peak allocated": 0.01, "peak reserved": 0.05}
"""How far a prediction may be off, as a share of what was measured, in fp32, fp16 and bf16, and in int8 and nf4."""


@dataclass(frozen=True)
class Comparison:
    """One number of one case. ``limit`` is what ``error`` may be, either way."""

    predicted: Record
    measured: Record
    quantity: Quantity
    predicted_bytes: int
    measured_bytes: int

    @property
    def error_bytes(self) -> int:
        """Above zero where more was predicted than used."""
        return self.predicted_bytes - self.measured_bytes

    @property
    def error(self) -> float:
        """Signed, as a share of what was measured."""
        return self.error_bytes / self.measured_bytes

    @property
    def quantized(self) -> bool:
        return self.measured.case["quantization"] in ("int8", "nf4")

    @property
    def limit(self) -> float:
        return (QUANTIZED if self.quantized else DENSE)[self.quantity]

    @property
    def within(self) -> bool:
        return abs(self.error) <= self.limit


@dataclass(frozen=True)
class Summary:
    """Of one quantity over dense or quantized cases: absolute errors, and how many keep to the limit."""

    quantity: Quantity
    quantized: bool
    cases: int
    within: int
    limit: float
    median_error: float
    largest_error: float


def pairs(records: Iterable[Record]) -> list[tuple[Record, Record]]:
    """``(predicted, measured)`` of each case and card of which both records ended ``ok`` with memory.

    Of several records of a case the last counts. Libraries may differ: a GPU's machine has other versions than the
    laptop that predicts for it.
    """
    found: dict[str, dict[tuple[str, str, int], Record]] = {"measured": {}, "predicted": {}}
    for record in records:
        if record.status == "ok" and record.memory is not None and record.device.type != "cpu":
            found[record.source][identity(record)] = record
    return [
        (predicted, measured)
        for one, measured in found["measured"].items()
        if (predicted := found["predicted"].get(one)) is not None
    ]


def identity(record: Record) -> tuple[str, str, int]:
    """What a predicted and a measured record of one case have in common."""
    return record.key, record.device.name, record.seed


def compare(records: Iterable[Record]) -> list[Comparison]:
    """Every number that both records of :func:`pairs` have."""
    comparisons = []
    for predicted, measured in pairs(records):
        assert predicted.memory is not None
        assert measured.memory is not None
        mine, theirs = _numbers(predicted.memory), _numbers(measured.memory)
        for quantity in QUANTITIES:
            ours, real = mine[quantity], theirs[quantity]
            if ours is not None and real:
                comparisons.append(Comparison(predicted, measured, quantity, ours, real))
    return comparisons


def summarise(comparisons: Sequence[Comparison]) -> list[Summary]:
    """For dense cases and for quantized ones, a line for each quantity that some case has.

    ``comparisons`` are of one device.
    """
    summaries = []
    for quantized in (False, True):
        for quantity in QUANTITIES:
            members = [one for one in comparisons if one.quantity == quantity and one.quantized == quantized]
            if members:
                errors = [abs(one.error) for one in members]
                within = sum(one.within for one in members)
                summaries.append(
                    Summary(
                        quantity, quantized, len(members), within, members[0].limit, float(median(errors)), max(errors)
                    )
                )
    return summaries


def _numbers(memory: Memory) -> dict[Quantity, int | None]:
    return {
        "static": memory.static_bytes,
        "peak allocated": memory.peak_allocated_bytes,
        "peak reserved": memory.peak_reserved_bytes,
    }
