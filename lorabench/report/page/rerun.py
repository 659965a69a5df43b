"""How a reader gets from a verdict to what is behind it: one command runs its cases again, one opens a record of it."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lorabench.analysis.claims.claim import Verdict
from lorabench.analysis.claims.evidence import Scope
from lorabench.analysis.claims.words import told
from lorabench.catalog import CARDS, DEFAULT_CARD, INSTALL_PRETRAINED
from lorabench.catalog.shipped import PRETRAINED, SCENARIOS_FOLDER, SHIPPED
from lorabench.report.page.material import Entry

MOST_FILES = 8
"""Files of the folder scenarios/ that a command names one by one; of more it names the folder."""

_MINUTES_FROM_S = 90

# Cases of one scenario that were run with --model, before another had them.
_MOVED = {("checkpointing", "llama-2-7b"): "checkpointing-7b"}

_Place = tuple[bool, str, str, str]


@dataclass(frozen=True)
class _Run:
    """One record: the scenarios that run it, and what it took."""

    scenarios: frozenset[str]
    wall_s: float
    reserved_bytes: int | None


Ran = Mapping[_Place, Sequence[_Run]]
"""Runs of a case: by whether its record is committed, its source, device and key."""


@dataclass(frozen=True)
class Rerun:
    """``command`` is None where no shipped scenario is behind the verdict; ``unshipped`` are the others behind it.

    ``install`` brings the pretrained model, where the command needs it. ``wall_s`` is what the cases of the command
    took on the verdict's device, ``reserved_bytes`` the most that the allocator held for one; None without a GPU.
    With ``predicts`` it takes none.
    """

    command: str | None
    unshipped: tuple[str, ...]
    install: str | None = None
    wall_s: float = 0.0
    reserved_bytes: int | None = None
    predicts: bool = False

    @property
    def took(self) -> str | None:
        """What a reader's machine needs, as far as that of the records tells."""
        if not self.command or not self.wall_s:
            return None
        time = f"{self.wall_s / 60:.0f} minutes" if self.wall_s >= _MINUTES_FROM_S else f"{self.wall_s:.0f} s"
        if self.predicts:
            return f"Predicting its cases took {time}."
        held = f", and the largest held {told(self.reserved_bytes)} of GPU memory" if self.reserved_bytes else ""
        return f"Its cases took {time} on this device{held}."

    @property
    def besides(self) -> str | None:
        """What the command leaves to the reader, in a sentence."""
        if not self.unshipped:
            return None
        *most, last = self.unshipped
        names = f"{', '.join(most)} and {last}" if most else last
        which = f"the scenarios {names}, which do not" if most else f"the scenario {names}, which does not"
        cases = "Other cases" if self.command else "The cases"
        what = f"{'add' if self.command else 'run'} {'their files' if most else 'its file'}"
        return f"{cases} behind this verdict are of {which} ship with lorabench: {what}."


def ran(entries: Iterable[Entry]) -> Ran:
    found: dict[_Place, list[_Run]] = {}
    for entry in entries:
        record = entry.record
        place = (entry.committed, record.source, record.device.name, record.key)
        scenarios = frozenset(
            _MOVED.get((named.scenario, named.case["model"]), named.scenario) for named in record.in_each_scenario()
        )
        reserved = record.memory.peak_reserved_bytes if record.memory else None
        found.setdefault(place, []).append(_Run(scenarios, record.wall_s, reserved))
    return found


def rerun(verdict: Verdict, ran: Ran) -> Rerun | None:
    """What runs the cases behind ``verdict`` again and judges them; None where it was not tested, or has no records."""
    scope, finding = verdict.scope, verdict.finding
    if finding.verdict == "not tested":
        return None
    places = [(scope.committed, scope.source, scope.device_name, key) for key in finding.evidence]
    behind = [frozenset().union(*(run.scenarios for run in ran[place])) for place in places if place in ran]
    if not behind:
        return None
    shipped = _covering([name for name in names if name in SHIPPED] for names in behind)
    unshipped = _covering(names for names in behind if not SHIPPED.keys() & names)
    paths = _paths(shipped)
    all_run = {name for name, path in SHIPPED.items() if path in paths or f"{path.rpartition('/')[0]}/" in paths}
    of_scope = (scope.committed, scope.source, scope.device_name)
    runs = [run for place, some in ran.items() if place[:3] == of_scope for run in some if run.scenarios & all_run]
    return Rerun(
        _command(verdict.claim.id, scope, paths) if shipped else None,
        tuple(sorted(unshipped)),
        INSTALL_PRETRAINED if shipped & PRETRAINED else None,
        sum(run.wall_s for run in runs),
        max((run.reserved_bytes for run in runs if run.reserved_bytes), default=None),
        predicts=scope.source == "predicted",
    )


def opening(verdicts: Iterable[Verdict], entries: Iterable[Entry]) -> str | None:
    """As an example, what shows a record behind one of ``verdicts`` whole; None where no file is known to have any."""
    files: dict[_Place, str] = {}
    for entry in entries:
        record = entry.record
        if entry.file is not None:
            files.setdefault((entry.committed, record.source, record.device.name, record.key), entry.file)
    for verdict in verdicts:
        scope = verdict.scope
        for key in verdict.finding.evidence:
            if file := files.get((scope.committed, scope.source, scope.device_name, key)):
                return shlex.join(["lorabench", "show", file, key])
    return None


def _covering(behind: Iterable[Collection[str]]) -> set[str]:
    """Few scenarios of which each case has one, for many share cases: the one that most cases have is taken first."""
    left = [names for names in behind if names]
    taken: set[str] = set()
    while left:
        times = Counter(name for names in left for name in names)
        best = max(sorted(times), key=times.__getitem__)
        taken.add(best)
        left = [names for names in left if best not in names]
    return taken


def _command(claim_id: str, scope: Scope, paths: Sequence[str]) -> str:
    predicted = scope.source == "predicted"
    # A file for each verdict: one that is there already is refused.
    out = f"{claim_id}-predicted.jsonl" if predicted else f"{claim_id}.jsonl"
    made = ["lorabench", "predict" if predicted else "run", *paths, *_device(scope), "--out", out]
    # No &&: where one case is too large for the reader's GPU, the others are judged all the same.
    return f"{' '.join(made)}; lorabench claims {out} --claim {claim_id}"


def _paths(scenarios: Collection[str]) -> list[str]:
    paths = [path for name, path in SHIPPED.items() if name in scenarios]
    elsewhere = [path for path in paths if "/" in path.removeprefix(SCENARIOS_FOLDER)]
    return [SCENARIOS_FOLDER, *elsewhere] if len(paths) - len(elsewhere) > MOST_FILES else paths


def _device(scope: Scope) -> list[str]:
    if scope.device_type == "cpu":
        # Unasked, a GPU is taken where there is one, and scenarios have other settings for it.
        return ["--device", "cpu"]
    card = next((card for card in CARDS.values() if card.product == scope.device_name), DEFAULT_CARD)
    return ["--gpu", card.name] if scope.source == "predicted" and card is not DEFAULT_CARD else []
