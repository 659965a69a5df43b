"""What a reader must know before trusting a number: what did not end, what is unstable, what must not be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lorabench.environment import Environment
from lorabench.report.page.material import Entry, Material, by_device, on_each, tagged
from lorabench.report.page.quantities import ABSENT

_TEXT_CHARACTERS = 600
MOST = 200
"""Entries of each list that the page shows; the explorer has all of them."""


@dataclass(frozen=True)
class Unfinished:
    """A case that did not end ``ok``, with the reason."""

    entry: Entry
    where: str
    reason: str


@dataclass(frozen=True)
class Remark:
    """Something said about one case."""

    entry: Entry
    text: str


@dataclass(frozen=True)
class Machine:
    """An environment in words: ``facts`` and ``versions`` are pairs of a name and a value.

    ``alike`` environments have the same words, GPUs of one machine, say: ``environment`` is the first of them, and
    ``records`` are those of all.
    """

    environment: Environment
    committed: bool
    records: int
    facts: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    alike: int = 1

    @property
    def title(self) -> str:
        return tagged(self.environment.device.name, self.environment.device.type == "fake", self.committed)


@dataclass(frozen=True)
class Caveats:
    """Each list is whole; what shows them caps them at :data:`MOST` and says so.

    ``unfinished_on`` and ``unstable_on`` say how many there are on each device; None where the report has one alone.
    """

    unfinished: tuple[Unfinished, ...]
    unfinished_on: str | None
    unstable: tuple[Remark, ...]
    unstable_on: str | None
    remarks: tuple[Remark, ...]
    incomparable: tuple[str, ...]
    files: tuple[str, ...]
    statuses: Mapping[str, int]
    untested: int

    @property
    def any(self) -> bool:
        return bool(self.unfinished or self.unstable or self.remarks or self.incomparable or self.files)


def caveats(material: Material) -> Caveats:
    entries = material.entries
    bad = [entry for entry in entries if entry.record.status != "ok"]
    shaky = [entry for entry in entries if entry.unstable]
    several = len(by_device(material)) > 1
    return Caveats(
        unfinished=tuple(_unfinished(entry) for entry in bad),
        unfinished_on=on_each(entry.record.device.name for entry in bad) if several else None,
        unstable=tuple(
            Remark(
                entry,
                "; ".join(f"{phase}: {reason}" if reason else phase for phase, reason in entry.unstable.items()),
            )
            for entry in shaky
        ),
        unstable_on=on_each(entry.record.device.name for entry in shaky) if several else None,
        remarks=tuple(Remark(entry, _cut(text)) for entry in entries for text in entry.warnings),
        incomparable=tuple(incomparable(tuple(material.environments.values()))),
        files=material.warnings,
        statuses=Counter(entry.record.status for entry in bad),
        untested=sum(verdict.finding.verdict == "not tested" for verdict in material.verdicts),
    )


def machines(material: Material) -> tuple[Machine, ...]:
    """The environments that records name, in the order in which they come up, those alike together."""
    records = Counter(entry.record.environment for entry in material.entries)
    found: dict[tuple[Any, ...], Machine] = {}
    for name, environment in material.environments.items():
        committed = name in material.committed_environments
        facts, versions = tuple(_facts(environment)), tuple(environment.versions.items())
        words = (environment.device.type, committed, facts, versions)
        one = found.get(words, Machine(environment, committed, 0, facts, versions, alike=0))
        found[words] = replace(one, records=one.records + records[name], alike=one.alike + 1)
    return tuple(found.values())


def incomparable(environments: Sequence[Environment]) -> list[str]:
    """In one line each, why records that stand side by side must not be compared number by number."""
    found = []
    devices = {(environment.device.type, environment.device.name) for environment in environments}
    if len(devices) > 1:
        names = ", ".join(sorted(f"{name} ({kind})" for kind, name in devices))
        found.append(f"Records of {len(devices)} devices stand side by side: {names}. Compare within one only.")
    libraries = dict.fromkeys(library for environment in environments for library in environment.versions)
    for library in libraries:
        versions = sorted({environment.versions.get(library, "none") for environment in environments})
        if len(versions) > 1:
            found.append(f"Records were made with different versions of {library}: {', '.join(versions)}.")
    benches = sorted({environment.lorabench for environment in environments})
    if len(benches) > 1:
        found.append(f"Records were made by different versions of lorabench: {', '.join(benches)}.")
    for environment in environments:
        others = environment.gpu.get("others")
        if others:
            found.append(
                f"{environment.device.name}: {others['processes']} other processes used the GPU when a run began "
                f"({others['used_bytes'] / 2**20:,.0f} MiB): its times may be theirs too."
            )
    return found


def _unfinished(entry: Entry) -> Unfinished:
    error = entry.record.error
    if error is None:
        return Unfinished(entry, ABSENT, "no reason was recorded")
    return Unfinished(entry, error.phase or ABSENT, _cut(f"{error.type}: {error.message}"))


def _cut(text: str) -> str:
    """A message as long as a list can show; the record has it whole."""
    return text if len(text) <= _TEXT_CHARACTERS else f"{text[:_TEXT_CHARACTERS]}…"


_GPU_FACTS = {
    "compute_capability": ("Compute capability", ""),
    "max_sm_clock_mhz": ("Highest SM clock", " MHz"),
    "max_memory_clock_mhz": ("Highest memory clock", " MHz"),
    "power_limit_w": ("Power limit", " W"),
    "ecc": ("ECC", ""),
}


def _gpu_fact(name: str, value: str | int | float) -> tuple[str, str]:
    words, unit = _GPU_FACTS.get(name, (f"GPU {name.replace('_', ' ')}", ""))
    if isinstance(value, bool):
        return words, "on" if value else "off"
    return words, f"{value if isinstance(value, str) else f'{value:,.6g}'}{unit}"


def _facts(environment: Environment) -> list[tuple[str, str]]:
    cpu, gpu, git = environment.cpu, environment.gpu, environment.git
    gib = f"{environment.device.total_bytes / 2**30:,.1f} GiB"
    facts = [("Device", environment.device.name), ("Its memory", gib)]
    if environment.driver:
        facts.append(("Driver", environment.driver))
    for name, value in gpu.items():
        if isinstance(value, str | int | float) and name != "number":
            facts.append(_gpu_fact(name, value))
    if environment.device.type != "cpu" and cpu.get("name"):
        facts.append(("Processor", str(cpu["name"])))
    if cpu.get("cores"):
        facts.append(("Cores / threads", f"{cpu['cores']} / {cpu.get('threads', ABSENT)}"))
    if cpu.get("torch_threads"):
        facts.append(("Threads of torch", str(cpu["torch_threads"])))
    facts += [("System", environment.os), ("lorabench", environment.lorabench)]
    if git is not None:
        facts.append(("Commit", git.commit[:12] + (" with uncommitted changes" if git.dirty else "")))
    return facts
