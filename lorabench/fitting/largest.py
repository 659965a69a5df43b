"""For each combination of a scenario's other axes, the largest value of one that fits a card.

"Fits" is a prediction that runs to its end against the allocator's model with the card's capacity, from loading on; see
:mod:`lorabench.runner.on_card`. Each prediction has a process of its own, forked from one server.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from lorabench.case import Case, format_value
from lorabench.catalog import Card
from lorabench.environment import resolve_device
from lorabench.errors import InputError
from lorabench.fitting.answer import Answer, StoppedBy
from lorabench.fitting.limits import Limit, batch_limit, length_limit, rank_limit
from lorabench.fitting.margin import margin_bytes
from lorabench.fitting.search import Found, Probe, search
from lorabench.record import Record
from lorabench.runner.launcher import Work
from lorabench.runner.local import LocalLauncher

OnProbe = Callable[[Case, Record], None]
"""Told of each prediction: the case with the value that was tried, and its record."""


@dataclass(frozen=True)
class Axis:
    """An axis that can be searched: from where, by which first step, and up to which limit of a case."""

    smallest: int
    second: int
    limit: Callable[[Case], Limit]


AXES: Mapping[str, Axis] = {
    # A causal language model needs two positions to learn from.
    "batch_size": Axis(1, 2, batch_limit),
    "sequence_length": Axis(2, 256, length_limit),
    "adapter.rank": Axis(1, 64, rank_limit),
}


def find_largest(
    cases: Iterable[Case],
    card: Card,
    over: str = "batch_size",
    *,
    margin: str = "0",
    trust_remote_code: bool = False,
    on_probe: OnProbe | None = None,
) -> Iterator[Answer]:
    """An answer for each of ``cases``, whose own value of ``over`` does not matter, as soon as it is known.

    Cases that differ in nothing else are one. ``margin`` is a size or a share of what is usable, which is kept free.

    Raises:
        InputError: ``over`` cannot be searched, a case has no adapter to search a rank for, or ``margin`` is refused.
    """
    if over not in AXES:
        raise InputError(f"--over {over}: {', '.join(AXES)} would be right")
    chosen = _distinct(cases, over)
    margins = {case.name: margin_bytes(margin, card.usable_bytes(case.quantization)) for case in chosen}
    for case in chosen:
        if over == "adapter.rank" and case.adapter is None:
            raise InputError(f"{case.name}: has no adapter, so there is no rank to search")
    with ExitStack() as held:
        launchers: dict[str, LocalLauncher] = {}
        for case in chosen:
            capacity = card.usable_bytes(case.quantization) - margins[case.name]
            spec = f"fake:{card.name}:{capacity}"
            if spec not in launchers:
                target = resolve_device(spec)
                launcher = LocalLauncher(target, trust_remote_code=trust_remote_code, attribute=False)
                launchers[spec] = held.enter_context(launcher)
            prober = _Prober(case, over, launchers[spec], on_probe or _nobody)
            yield _answer(prober, card, margins[case.name], capacity)


def _nobody(case: Case, record: Record) -> None:
    """Predictions are told to nobody."""


def with_value(case: Case, over: str, value: int) -> Case:
    """``case`` with ``value``, under a name that says so; its groups are no more, since nothing is timed."""
    axes = (*(axis for axis in case.axes if axis[0] != over), (over, value))
    if over == "adapter.rank":
        assert case.adapter is not None
        return replace(case, adapter=replace(case.adapter, rank=value), axes=axes, group=None)
    return replace(case, **{over: value}, axes=axes, group=None)  # type: ignore[arg-type]


def _distinct(cases: Iterable[Case], over: str) -> list[Case]:
    """One case for each combination of what else is varied, without the axis that is searched."""
    found: dict[str, Case] = {}
    for case in cases:
        bare = replace(case, axes=tuple(axis for axis in case.axes if axis[0] != over), group=None)
        found.setdefault(bare.name, bare)
    return list(found.values())


class _Prober:
    """Predicts values of one case with one server, and keeps the records."""

    def __init__(self, case: Case, over: str, launcher: LocalLauncher, on_probe: OnProbe) -> None:
        self.case, self.over, self._launcher, self._on_probe = case, over, launcher, on_probe
        self.records: dict[int, Record] = {}

    def __call__(self, value: int) -> Probe:
        case = with_value(self.case, self.over, value)
        [record] = self._launcher.run([Work((case,))])
        self.records[value] = record
        self._on_probe(case, record)
        if record.status == "ok":
            assert record.memory is not None
            return Probe(value, True, record.memory.peak_allocated_bytes)
        if record.status == "oom":
            return Probe(value, False)
        return Probe(value, False, error=record.error.message if record.error else record.status)


def _answer(prober: _Prober, card: Card, margin: int, capacity: int) -> Answer:
    started = time.monotonic()
    case, over = prober.case, prober.over
    axis = AXES[over]
    limit = axis.limit(case)
    found = search(prober, min(axis.smallest, limit.value), axis.second, limit.value, capacity)
    usable = capacity + margin
    stopped_by, reason = _why(found, limit, over, prober.records)
    record = None if found.largest is None else prober.records[found.largest]
    fits = {} if record is None else record.observations["fits"]
    reserved = fits.get("reserved_bytes")
    return Answer(
        name=case.name,
        scenario=case.scenario,
        case=case.to_dict(),
        gpu=card.name,
        over=over,
        largest=found.largest,
        stopped_by=stopped_by,
        reason=reason,
        usable_bytes=usable,
        margin_bytes=margin,
        reserved_bytes=reserved,
        headroom_bytes=None if reserved is None else usable - reserved,
        peak_allocated_bytes=record.memory.peak_allocated_bytes if record and record.memory else None,
        assumptions=tuple(fits.get("assumptions", ())),
        predictions=tuple(_prediction(probe, prober.records[probe.value]) for probe in found.probes),
        wall_s=time.monotonic() - started,
    )


def _prediction(probe: Probe, record: Record) -> dict[str, Any]:
    return {"value": probe.value, "status": record.status, "wall_s": record.wall_s}


def _why(found: Found, limit: Limit, over: str, records: Mapping[int, Record]) -> tuple[StoppedBy, str]:
    """What ended the search, and in words."""
    if found.error is not None and (found.largest is None or found.largest != limit.value):
        failed = found.probes[-1].value
        # The neighbour above is known to be too large: only the far end could not be looked at.
        if found.smallest_failing is None or found.smallest_failing != (found.largest or 0) + 1:
            return "failed", f"{over}={failed}: {found.error}"
    if found.smallest_failing is None:
        return "limit", limit.reason
    error = records[found.smallest_failing].error
    where = f" in {error.phase}" if error and error.phase else ""
    text = f"{over}={format_value(found.smallest_failing)} is out of memory{where}"
    if not found.is_monotone:
        text += f", but {over}={found.probes[-1].value:,} fits: between them larger values may fit too"
    return "memory", text
