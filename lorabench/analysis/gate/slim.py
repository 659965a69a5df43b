"""Records and environments without what a comparison has no use for: a baseline is committed, and read as a diff."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lorabench.analysis.gate.environments import decisive_versions
from lorabench.environment import ID_LENGTH, Environment
from lorabench.record import Record, Timing


def slim_environment(environment: Environment) -> Environment:
    """Device, driver and versions, which decide whether records can be compared; nothing of the machine around them.

    The id is a hash of device and of the versions that decide: with another patch release
    of Python all else in the file stays as it was.
    """
    versions = decisive_versions(environment)
    device = [environment.device.type, environment.device.name, environment.device.total_bytes]
    digest = hashlib.sha256(json.dumps([device, versions], sort_keys=True).encode()).hexdigest()[:ID_LENGTH]
    return replace(environment, cpu={}, gpu={}, os="", git=None, id=digest)


def slim_record(record: Record, environment: str) -> Record:
    """Memory, proof, medians and the bytes of modules; no samples, no timeline. ``environment`` is the id it names."""
    modules = module_bytes(record)
    return replace(
        record,
        environment=environment,
        proof=record.proof and replace(record.proof, outlier_share={}),
        latency={phase: _without_samples(timing) for phase, timing in record.latency.items()},
        tokens_per_s=None,
        observations={"attribution": {"modules": modules}} if modules else {},
    )


def module_bytes(record: Record) -> dict[str, dict[str, int]]:
    """Bytes at the peak by module and category; of what is not of that shape, nothing: observations are not checked."""
    attribution = record.observations.get("attribution")
    modules = attribution.get("modules") if isinstance(attribution, Mapping) else None
    found = {}
    for module, categories in modules.items() if isinstance(modules, Mapping) else ():
        if isinstance(categories, Mapping):
            found[module] = {name: n_bytes for name, n_bytes in categories.items() if _is_bytes(n_bytes)}
    return found


def _is_bytes(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _without_samples(timing: Timing) -> Timing:
    return replace(timing, samples_s=())
