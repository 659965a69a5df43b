"""Runs works on several devices of this machine at once, one work a device at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from lorabench.environment import Environment
from lorabench.record import Record
from lorabench.runner.launcher import Work
from lorabench.runner.local import LocalLauncher
from lorabench.runner.waiting import merge


class SeveralLaunchers:
    """A :class:`~lorabench.runner.launcher.Launcher` over one for each device, all of one model.

    Whichever is free takes the next work. One process follows all of them: there are no threads to disturb what is
    measured, and the order of a device's works is that of the queue.
    """

    def __init__(self, launchers: Sequence[LocalLauncher]) -> None:
        self._launchers = launchers

    @property
    def environments(self) -> Sequence[Environment]:
        """One for each device. Their servers import side by side."""
        for launcher in self._launchers:
            launcher.start()
        return [launcher.environment for launcher in self._launchers]

    def run(self, works: Iterable[Work]) -> Iterator[Record]:
        queue = iter(works)
        return merge([launcher.steps(queue) for launcher in self._launchers])

    def close(self) -> None:
        for launcher in self._launchers:
            launcher.close()
