"""A results file's times as pytest-benchmark's JSON, for ``pytest-benchmark compare`` and dashboards that read it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lorabench.case import format_value
from lorabench.environment import Environment
from lorabench.errors import InputError
from lorabench.record import Record, Timing
from lorabench.report.terminal import in_order
from lorabench.wording import counted

MISSING = "export: pytest-benchmark, whose own statistics the file has, is not installed: pip install pytest-benchmark"


def export(records: Sequence[Record], environments: Mapping[str, Environment]) -> tuple[dict[str, Any], list[str]]:
    """What ``pytest --benchmark-json`` would have written, and in a line each what was left out.

    One benchmark for each timed phase of each record, named ``CASE::PHASE``, grouped by scenario and phase, in each
    scenario that asks for the case; its statistics are those of ``pytest_benchmark.stats.Stats`` over the samples, in
    seconds. ``extra_info`` has what pytest-benchmark knows nothing of: bytes, device, versions, the median's interval.

    Raises:
        InputError: pytest-benchmark is not installed, or no record has samples.
    """
    try:
        from pytest_benchmark import __version__ as version
    except ImportError:
        raise InputError(MISSING) from None
    timed = (record for record in records if record.status == "ok" and record.latency)
    # A dashboard's curve of a scenario goes on where another one ran the case for it.
    sound = in_order(named for record in timed for named in record.in_each_scenario())
    if not sound:
        raise InputError("export: no record has samples of time: a prediction knows bytes alone")
    names = _names(sound)
    benchmarks = [
        _benchmark(record, name, phase, timing, environments[record.environment])
        for record, name in zip(sound, names, strict=True)
        for phase, timing in record.latency.items()
        if timing.samples_s
    ]
    first = environments[sound[0].environment]
    whole = {
        "machine_info": _machine(first),
        "commit_info": _commit(first),
        "benchmarks": benchmarks,
        "datetime": max(record.started_at for record in sound),
        "version": version,
    }
    return whole, list(_left_out(records))


def _names(records: Sequence[Record]) -> list[str]:
    """Unique in the file: dashboards keep a curve for each name."""
    devices = len({record.device.name for record in records}) > 1
    names = [
        record.name
        + (f" on {record.device.name}" if devices else "")
        + (f" #{record.repeat + 1}" if record.repeat else "")
        for record in records
    ]
    times = Counter(names)
    long = [
        f"{name} {record.key} seed {record.seed}" if times[name] > 1 else name
        for name, record in zip(names, records, strict=True)
    ]
    # Records of one identity differ in the group that they were timed in.
    again = Counter(long)
    return [
        f"{name} in {record.group or 'no group'}" if again[name] > 1 else name
        for name, record in zip(long, records, strict=True)
    ]


def _benchmark(record: Record, name: str, phase: str, timing: Timing, environment: Environment) -> dict[str, Any]:
    from pytest_benchmark.stats import Stats

    stats = Stats()
    for sample in timing.samples_s:
        stats.update(sample)
    axes = {axis: format_value(value) for axis, value in record.case["axes"]}
    return {
        "group": f"{record.scenario} {phase}",
        "name": f"{name}::{phase}",
        "fullname": f"{name}::{phase}",
        "params": axes or None,
        "param": ",".join(axes.values()) or None,
        "extra_info": {
            "key": record.key,
            "seed": record.seed,
            "device": record.device.name,
            "memory": {} if record.memory is None else _memory(record),
            "versions": dict(environment.versions),
            "median_ci95_s": list(timing.ci95_s),
            "unstable": timing.unstable,
        },
        # What pytest-benchmark was told to do; these samples were taken otherwise.
        "options": {"timer": "lorabench", "warmup": record.case["measure"]["warmup"] > 0},
        "stats": {**stats.as_dict(), "iterations": 1, "data": list(timing.samples_s)},
    }


def _memory(record: Record) -> dict[str, int]:
    found = asdict(record.memory) if record.memory is not None else {}
    return {name: value for name, value in found.items() if name.endswith("_bytes") and value is not None}


def _machine(environment: Environment) -> dict[str, Any]:
    """As pytest-benchmark compares it; without the host's name, which no results file has."""
    return {
        "node": environment.device.name,
        "processor": str(environment.cpu.get("name", "")),
        "machine": environment.device.type,
        "python_implementation": "CPython",
        "python_version": environment.versions.get("python", ""),
        "system": environment.os,
        "cpu": {"brand_raw": str(environment.cpu.get("name", "")), "count": environment.cpu.get("threads")},
    }


def _commit(environment: Environment) -> dict[str, Any]:
    git = environment.git
    return {
        "id": "unversioned" if git is None else git.commit,
        "time": None,
        "author_time": None,
        "dirty": git is not None and git.dirty,
        "project": "lorabench",
        "branch": "(unknown)",
    }


def _left_out(records: Sequence[Record]) -> Iterator[str]:
    reasons = Counter(
        record.status if record.status != "ok" else f"{record.source}, no samples of time"
        for record in records
        if record.status != "ok" or not any(timing.samples_s for timing in record.latency.values())
    )
    for reason, count in reasons.items():
        yield f"not exported: {counted(count, 'record')} ({reason})"
