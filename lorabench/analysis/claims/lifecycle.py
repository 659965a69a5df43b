"""Reads what lifecycle cases observed, whatever is missing in them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeGuard

from lorabench.analysis.claims.conditions import in_order
from lorabench.analysis.claims.evidence import Evidence, observed, samples, setting
from lorabench.analysis.statistics import Estimate
from lorabench.record import Record

MIB = 2**20


def having(evidence: Evidence, part: str) -> list[Record]:
    """Records with an adapter that observed ``lifecycle.<part>``, sorted by setting.

    An identity that several files hold counts once: the last.
    """
    found = {
        record.identity: record
        for record in evidence.records
        if isinstance(observed(record, f"lifecycle.{part}"), Mapping) and record.case.get("adapter") is not None
    }
    return in_order(found.values())


def is_plain(record: Record) -> bool:
    """Whether the case trains nothing but A and B: no bias, and no head that PEFT trains beside them."""
    adapter = record.case.get("adapter") or {}
    heads = adapter.get("task_type") in ("SEQ_CLS", "TOKEN_CLS") or (adapter.get("options") or {}).get(
        "modules_to_save"
    )
    return adapter.get("bias") in (None, "none") and not heads


def flag(record: Record, path: str) -> bool | None:
    """``lifecycle.<path>`` where it is a truth value."""
    value = observed(record, f"lifecycle.{path}")
    return value if isinstance(value, bool) else None


def number(record: Record, path: str) -> float | None:
    """``lifecycle.<path>`` where it is a finite number."""
    value = observed(record, f"lifecycle.{path}")
    return value if _is_number(value) else None


def integer(record: Record, path: str) -> int | None:
    """``lifecycle.<path>`` where it is a whole number: a count, or bytes."""
    value = number(record, path)
    return None if value is None else int(value)


def numbers(record: Record, path: str) -> list[float]:
    """``lifecycle.<path>`` where it is a list of finite numbers; else empty."""
    value = observed(record, f"lifecycle.{path}")
    return list(value) if isinstance(value, list | tuple) and all(map(_is_number, value)) else []


def names(record: Record, path: str) -> list[str] | None:
    """``lifecycle.<path>`` where it is a list of names."""
    value = observed(record, f"lifecycle.{path}")
    return [str(name) for name in value] if isinstance(value, list | tuple) else None


def median_ms(record: Record, phase: str) -> float | None:
    """Median of a phase's samples, ms."""
    timing = record.latency.get(phase)
    return None if timing is None else timing.median_s * 1e3


def timed_ms(record: Record, phase: str) -> Estimate | None:
    """Median of a phase in ms with its interval and the number of its samples."""
    timing = record.latency.get(phase)
    if timing is None:
        return None
    low, high = timing.ci95_s
    return Estimate(timing.median_s * 1e3, low * 1e3, high * 1e3, len(samples(record, phase)))


def extra_peak_bytes(record: Record, phase: str) -> int | None:
    """Bytes that a phase held at its peak beyond those on entering it."""
    if record.memory is None or phase not in record.memory.phases:
        return None
    return record.memory.phases[phase].peak_bytes - record.memory.phases[phase].before_bytes


def span(values: Sequence[float | None], unit: str = "", digits: int = 3) -> str:
    """``1.2 to 3.4 ms``, or one number where they are equal; ``not measured`` where there is none."""
    known = [value for value in values if value is not None]
    if not known:
        return "not measured"
    ends = dict.fromkeys(
        f"{value:,.{digits}g}" if abs(value) < 1000 else f"{value:,.0f}" for value in (min(known), max(known))
    )
    return " ".join([" to ".join(ends), unit]).strip()


def took(what: str, records: Sequence[Record], phase: str) -> str:
    """``Saving took 6.9 to 20.7 ms.``: the medians of ``records``."""
    medians_ms = [one for record in records if (one := median_ms(record, phase)) is not None]
    return f"{what} took {span(medians_ms, 'ms')}." if medians_ms else f"{what} was not timed."


def outputs_off(told: Iterable[tuple[Record, object]]) -> str:
    """How far merged outputs are off: the largest of each quantization, those of pretrained weights apart.

    ``0.25 (int8) with random weights and a random adapter; with pretrained weights 0.047 (int8, smollm2-135m)``: of
    random weights alone a number would be taken for what merging does to a model that somebody trained.
    """
    largest: dict[bool, dict[str, tuple[float, str]]] = {False: {}, True: {}}
    for record, value in told:
        if _is_number(value):
            found = largest[setting(record, "weights") == "pretrained"]
            name = str(setting(record, "quantization"))
            found[name] = max((float(value), str(setting(record, "model"))), found.get(name, (-math.inf, "")))
    random = ", ".join(f"{value:.2g} ({name})" for name, (value, _) in largest[False].items())
    pretrained = ", ".join(f"{value:.2g} ({name}, {model})" for name, (value, model) in largest[True].items())
    parts = [f"{random} with random weights and a random adapter"] if random else []
    parts += [f"with pretrained weights {pretrained}{'' if random else ' and a random adapter'}"] if pretrained else []
    return "; ".join(parts) or "what was not measured"


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
