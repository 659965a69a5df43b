"""Results as a tidy table: one row a record, one documented column a fact."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorabench.analysis.columns import COLUMNS, IDENTITY, LIBRARIES, MEMORY, PROOF, SETTINGS
from lorabench.case import format_value
from lorabench.environment import Environment
from lorabench.errors import InputError
from lorabench.record import Record
from lorabench.results import read_results
from lorabench.wording import did_you_mean

if TYPE_CHECKING:
    import pandas as pd

Paths = str | PathLike[str] | Sequence[str | PathLike[str]]


def load(paths: Paths, *, scenario: str | None = None) -> pd.DataFrame:
    """The records of one or more results files, one row each, in the columns that :data:`COLUMNS` documents.

    See :func:`lorabench.load`.
    """
    several = [paths] if isinstance(paths, str | PathLike) else paths
    results = read_results(*(Path(path) for path in several))
    records = results.latest()
    if scenario is not None:
        records = _of_scenario(records, scenario)
    return frame(records, results.environments)


def _of_scenario(records: Sequence[Record], scenario: str) -> list[Record]:
    named = [one for record in records for one in record.in_each_scenario()]
    found = [record for record in named if record.scenario == scenario]
    if not found:
        hint = did_you_mean(scenario, {record.scenario for record in named})
        raise InputError(f"no record is of the scenario {scenario!r}{hint}")
    return found


def frame(records: Iterable[Record], environments: Mapping[str, Environment]) -> pd.DataFrame:
    """``records`` as rows; ``environments`` are those that they name, by id."""
    import pandas as pd

    rows = [_row(record, environments[record.environment]) for record in records]
    # By way of object, so that an integer beside a missing value never passes through a float.
    table = pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)
    return table.astype({name: column.dtype for name, column in COLUMNS.items()})


def _row(record: Record, environment: Environment) -> dict[str, Any]:
    """The columns that ``record`` fills; those left out are missing in its row."""
    row: dict[str, Any] = {name: getattr(record, name) for name in IDENTITY}
    row["also"] = "; ".join(other.name for other in record.also) or None
    row |= {
        "environment": record.environment,
        "device_type": record.device.type,
        "device_name": record.device.name,
        "device_total_bytes": environment.device.total_bytes,
        "driver": environment.driver,
        "lorabench_version": environment.lorabench,
        "tokens_per_s": record.tokens_per_s,
    }
    row |= {f"{library}_version": environment.versions.get(library) for library in LIBRARIES}
    row |= {name: record.case.get(name) for name in SETTINGS}
    row |= {f"adapter_{name}": _plain(value) for name, value in (record.case.get("adapter") or {}).items()}
    if record.error is not None:
        row |= {f"error_{name}": value for name, value in vars(record.error).items()}
    if record.proof is not None:
        row |= {name: getattr(record.proof, name) for name in PROOF}
    if record.memory is not None:
        row |= {f"memory_{name}": getattr(record.memory, name) for name in MEMORY}
        row |= {f"memory_{phase}_peak_bytes": seen.peak_bytes for phase, seen in record.memory.phases.items()}
    for phase, timing in record.latency.items():
        row |= {
            f"{phase}_median_s": timing.median_s,
            f"{phase}_ci95_low_s": timing.ci95_s[0],
            f"{phase}_ci95_high_s": timing.ci95_s[1],
            f"{phase}_unstable": timing.unstable,
            f"{phase}_samples": len(timing.samples_s),
        }
    return row


def _plain(value: Any) -> Any:
    """A setting as one cell: a list as its values joined with ``+``, a mapping as JSON."""
    if isinstance(value, Mapping):
        return json.dumps(value, sort_keys=True)
    return format_value(value) if isinstance(value, list | tuple) else value
