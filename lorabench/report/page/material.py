"""What a report is made of: the records that count, where they came from, and what there is to say against them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lorabench.analysis.agreement import Agreement
from lorabench.analysis.claims.claim import Verdict
from lorabench.case import format_value
from lorabench.environment import Environment
from lorabench.record import Record
from lorabench.report.page.quantities import number
from lorabench.results import Identity, Results


@dataclass(frozen=True)
class Entry:
    """A record in the report. ``id`` tells it from all others; ``committed`` marks evidence that was not made here.

    ``repeated`` says whether its scenario was run in several rounds: names and labels have the round's number then.
    ``file`` is the results file that has it, where it was read from one.
    """

    id: str
    record: Record
    committed: bool
    repeated: bool = False
    file: str | None = None

    @property
    def name(self) -> str:
        """The case's name and the round of repetition."""
        return f"{self.record.name} {self._round}" if self.repeated else self.record.name

    @property
    def label(self) -> str:
        """What tells the record from others of its scenario: the values of what is varied, the round of repetition."""
        values = [format_value(value) for _, value in self.record.case["axes"]]
        if self.repeated:
            values.append(self._round)
        return " ".join(values) or self.record.scenario

    @property
    def _round(self) -> str:
        return f"#{self.record.repeat + 1}"

    @property
    def device(self) -> str:
        """What it ran on, or was predicted for."""
        return device_label(self.record)

    @property
    def where(self) -> str:
        """The device, and what else tells tables and figures apart: whether it was predicted, or is committed."""
        return tagged(self.record.device.name, self.record.source == "predicted", self.committed)

    @property
    def unstable(self) -> dict[str, str]:
        """The phases whose times cannot be trusted, each with the reason."""
        return {phase: timing.reason or "" for phase, timing in self.record.latency.items() if timing.unstable}

    @property
    def warnings(self) -> list[str]:
        """What the worker had to say about the machine or the libraries while the case ran."""
        found = self.record.observations.get("warnings", ())
        return [str(one) for one in found] if isinstance(found, list | tuple) else []


@dataclass(frozen=True)
class Material:
    """``entries`` in reading order: by scenario, device and the values of what is varied."""

    entries: tuple[Entry, ...]
    environments: Mapping[str, Environment]
    verdicts: tuple[Verdict, ...]
    files: tuple[str, ...]
    warnings: tuple[str, ...]
    agreements: tuple[Agreement, ...] = ()

    @property
    def committed_environments(self) -> frozenset[str]:
        """Environments of which the report has committed records alone."""
        fresh = {entry.record.environment for entry in self.entries if not entry.committed}
        return frozenset({entry.record.environment for entry in self.entries} - fresh)


def gather(results: Sequence[Results], verdicts: Sequence[Verdict]) -> Material:
    """``results`` as files were read, one each; ``verdicts`` as they were judged on them.

    Of records with one identity the last counts, but one that was made here never replaces committed evidence.
    """
    from lorabench.report.terminal import in_order

    environments = {name: environment for file in results for name, environment in file.environments.items()}
    records: dict[bool, list[Record]] = {False: [], True: []}
    # The last counts, as in Results.latest.
    files: dict[tuple[bool, Identity, str], str | None] = {}
    for file in results:
        committed, name = is_committed(file), _file_name(file)
        records[committed] += file.records
        files |= {(committed, record.identity, record.source): name for record in file.records}
    entries: list[Entry] = []
    times: Counter[str] = Counter()
    for committed, members in records.items():
        repeated = {_table(named) for record in members if record.repeat for named in record.in_each_scenario()}
        for record in in_order(Results(environments, members).latest()):
            times[record.key] += 1
            suffix = f"~{times[record.key]}" if times[record.key] > 1 else ""
            entries.append(
                Entry(
                    id=f"{record.key}{suffix}",
                    record=record,
                    committed=committed,
                    repeated=_table(record) in repeated,
                    file=files[committed, record.identity, record.source],
                )
            )
    return Material(
        entries=tuple(entries),
        environments={name: environments[name] for name in dict.fromkeys(e.record.environment for e in entries)},
        verdicts=tuple(verdicts),
        files=tuple(file.path.name for file in results if file.path is not None),
        warnings=tuple(warning for file in results for warning in file.warnings),
    )


def in_each_scenario(entries: Sequence[Entry]) -> list[Entry]:
    """``entries`` in reading order, under the name of each scenario that asks for their case."""
    from lorabench.report.terminal import reading_order

    if not any(entry.record.also for entry in entries):
        return list(entries)
    named = [replace(entry, record=record) for entry in entries for record in entry.record.in_each_scenario()]
    repeated = {(entry.committed, _table(entry.record)) for entry in named if entry.record.repeat}
    named = [replace(entry, repeated=(entry.committed, _table(entry.record)) in repeated) for entry in named]
    return sorted(named, key=lambda entry: (entry.committed, reading_order(entry.record)))


def _table(record: Record) -> tuple[str, str]:
    """What stands together where cases are listed."""
    return record.scenario, device_label(record)


def is_committed(results: Results) -> bool:
    """Whether a file is evidence from the repository: it lies in a folder below ``results/``."""
    return results.path is not None and results.path.resolve().parent.parent.name == "results"


def _file_name(results: Results) -> str | None:
    """As a reader beside the report can name the file: a path from the root says where it lay on one machine."""
    path, here = results.path, Path.cwd()
    if path is None:
        return None
    if path.is_relative_to(here):
        path = path.relative_to(here)
    return path.name if path.is_absolute() else path.as_posix()


def by_device(material: Material) -> tuple[tuple[str | None, Material], ...]:
    """The material of each device, with its name: numbers of two share no table, no summary and no figure.

    What was measured on a device and what was predicted for it belong together. All of one device needs no name: None.
    """
    names = dict.fromkeys(entry.record.device.name for entry in material.entries)
    if len(names) < 2:
        return ((None, material),)
    return tuple((name, _of_device(material, name)) for name in names)


def _of_device(material: Material, name: str) -> Material:
    entries = tuple(entry for entry in material.entries if entry.record.device.name == name)
    used = {entry.record.environment for entry in entries}
    return replace(
        material,
        entries=entries,
        environments={key: environment for key, environment in material.environments.items() if key in used},
        verdicts=tuple(verdict for verdict in material.verdicts if verdict.scope.device_name == name),
        agreements=tuple(one for one in material.agreements if one.scope.device_name == name),
    )


def devices(entries: Iterable[Entry]) -> tuple[str, ...]:
    """What the records say they ran on, or were predicted for."""
    return tuple(dict.fromkeys(entry.device for entry in entries))


def on_each(names: Iterable[str]) -> str:
    """How often each device comes up: ``3 on NVIDIA H100 80GB HBM3, 1 on NVIDIA L4``."""
    return ", ".join(f"{number(count)} on {name}" for name, count in Counter(names).items())


def device_label(record: Record) -> str:
    return tagged(record.device.name, record.source == "predicted")


def tagged(name: str, predicted: bool, committed: bool = False) -> str:
    """A device's name with all that must be said of its numbers in one pair of brackets."""
    tags = [tag for tag, holds in (("predicted", predicted), ("committed", committed)) if holds]
    return f"{name} ({', '.join(tags)})" if tags else name
