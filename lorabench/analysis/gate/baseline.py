"""The baseline: a results file that is committed, slim and in a stable order, with tolerances among its lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lorabench.analysis.gate.metrics import refuse_negative
from lorabench.analysis.gate.slim import slim_environment, slim_record
from lorabench.analysis.gate.tolerances import Tolerance, parse_tolerance
from lorabench.environment import Environment
from lorabench.errors import InputError, ResultsError
from lorabench.record import Record
from lorabench.results import Results, read_results
from lorabench.whole_file import write_whole
from lorabench.wording import one_line

_MOST_NAMED = 5


@dataclass(frozen=True)
class Baseline:
    """``records`` are those that are promised, one for each identity and source; ``warnings`` tell of the others."""

    records: tuple[Record, ...]
    environments: dict[str, Environment]
    tolerances: tuple[Tolerance, ...] = ()
    warnings: tuple[str, ...] = ()

    def kept_by(self, other: Baseline) -> list[Record]:
        """Those of its records of which ``other`` has the identity."""
        kept = {(record.identity, record.source) for record in other.records}
        return [record for record in self.records if (record.identity, record.source) in kept]


def read_baseline(path: Path) -> Baseline | None:
    """The baseline in ``path``; None where there is no such file. Any results file will do for one.

    Raises:
        ResultsError: it cannot be read, a line is neither of a results file nor a tolerance, or it ends in a torn line.
    """
    tolerances: list[Tolerance] = []
    try:
        path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read: {error.strerror}") from None
    results = read_results(path, also={"tolerance": lambda data: tolerances.append(parse_tolerance(data))})
    if results.warnings:
        # A results file is torn when a run is killed. A baseline is written whole: what is lost would not be missed.
        raise ResultsError(f"{path}: the last line is torn: take the file from git again")
    records, warnings = current(results, str(path))
    promised = [record for record in records if record.status == "ok"]
    others = [record for record in records if record.status != "ok"]
    if others:
        warnings.append(f"{path}: not ok, and so no promise: {named(others)}")
    return Baseline(tuple(promised), results.environments, tuple(tolerances), tuple(warnings))


def current(results: Results, file: str) -> tuple[list[Record], list[str]]:
    """The records that count, the last of each identity, and a warning where an earlier one has other bytes.

    Raises:
        ResultsError: a record has fewer than no bytes.
    """
    records = results.latest()
    for record in records:
        refuse_negative(record, file)
    latest = {(record.identity, record.source): record for record in records}
    contradicted = [
        record
        for record in results.records
        if record.status == "ok" and record.memory != latest[record.identity, record.source].memory
    ]
    if not contradicted:
        return records, []
    return records, [f"{file}: of several records with other bytes the last counts: {named(contradicted)}"]


def named(records: Sequence[Record]) -> str:
    """Their names, the first few, each with its status where that is not ok."""
    texts = [
        one_line(record.name if record.status == "ok" else f"{record.name} ({record.status})")
        for record in records[:_MOST_NAMED]
    ]
    more = len(records) - len(texts)
    return ", ".join(texts) + (f" and {more} more" if more > 0 else "")


def make_baseline(results: Results, records: Sequence[Record], before: Baseline | None, *, keep: bool) -> Baseline:
    """A baseline of ``records``, which ``results`` has. Tolerances stay; with ``keep`` also records that are lacking.

    A prediction whose bytes are those of ``before`` keeps its line, so that a diff shows what changed and no more.

    Raises:
        InputError: there is no record, or one did not end ``ok``.
    """
    if not records:
        raise InputError("--update: the results have no record: there is nothing to make a baseline of")
    if others := [record for record in records if record.status != "ok"]:
        raise InputError(f"--update: a baseline promises cases that end ok, and these did not: {named(others)}")
    environments: dict[str, Environment] = {}
    made: dict[Any, Record] = {}
    sources = [(record, results.environments) for record in records]
    old = {(record.identity, record.source): record for record in before.records} if before else {}
    if before and keep:
        new = {(record.identity, record.source) for record in records}
        sources += [(record, before.environments) for name, record in old.items() if name not in new]
    for record, known in sources:
        environment = slim_environment(known[record.environment])
        environments[environment.id] = environment
        slim = slim_record(record, environment.id)
        earlier = old.get((record.identity, record.source))
        if earlier and _text(earlier) == _text(
            replace(slim, started_at=earlier.started_at, wall_s=earlier.wall_s, also=earlier.also)
        ):
            slim = earlier
        made[record.identity, record.source] = slim
    return Baseline(tuple(sorted(made.values(), key=_order)), environments, before.tolerances if before else ())


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Writes the file, whole or not at all.

    Raises:
        ResultsError: the system refuses.
    """
    text = "".join(_text(line) + "\n" for line in _lines(baseline))
    try:
        if path.exists() and not path.is_file():
            raise ResultsError(f"{path}: not a regular file: a baseline is one")
        write_whole(path, text)
    except OSError as error:
        raise ResultsError(f"{path}: cannot be written: {error.strerror}") from None


def _lines(baseline: Baseline) -> Iterator[Environment | Tolerance | Record]:
    yield from sorted(baseline.environments.values(), key=lambda one: (one.device.name, one.id))
    yield from baseline.tolerances
    yield from baseline.records


def _text(line: Environment | Tolerance | Record) -> str:
    return json.dumps(line.to_dict(), allow_nan=False)


def _order(record: Record) -> tuple[Any, ...]:
    return record.scenario, record.name, record.key, record.source, record.device.name, *_rest(record)


def _rest(record: Record) -> Iterable[Any]:
    return record.seed, record.repeat, record.group or ""
