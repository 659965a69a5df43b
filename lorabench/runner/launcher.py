"""The seam between what is to be run and where: a launcher takes works and yields records.

The local launcher runs them on this machine. A launcher for many machines hands each work to the local one there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from lorabench.case import Case
from lorabench.environment import Environment
from lorabench.record import Record


@dataclass(frozen=True)
class Work:
    """What is never split over machines: one case, or the cases of one group, in one round of repeats."""

    cases: tuple[Case, ...]
    repeat: int = 0

    @property
    def grouped(self) -> bool:
        """Whether the cases are timed in turn in one process."""
        return self.cases[0].group is not None


class Launcher(Protocol):
    """Where works are run."""

    @property
    def environments(self) -> Sequence[Environment]:
        """Where the records come from, one for each device; known before the first of them."""

    def run(self, works: Iterable[Work]) -> Iterator[Record]:
        """One record for each case of each work, as soon as it is known. Never raises for what a case does."""

    def close(self) -> None:
        """Stop what runs and release what is held."""


class Progress(Protocol):
    """Told what a run is doing, of several cases at a time where there are several devices.

    The calls come between measurements or from the process that waits, never in one.
    """

    def planned(self, cases: int) -> None:
        """So many records will come."""

    def started(self, case: Case, repeat: int) -> None: ...

    def phase(self, case: Case, name: str) -> None: ...

    def finished(self, record: Record) -> None: ...

    def warning(self, text: str) -> None:
        """In one line, something about the machine that makes results worse than they look."""


class NoProgress:
    """Tells nobody."""

    def planned(self, cases: int) -> None: ...

    def started(self, case: Case, repeat: int) -> None: ...

    def phase(self, case: Case, name: str) -> None: ...

    def finished(self, record: Record) -> None: ...

    def warning(self, text: str) -> None: ...
