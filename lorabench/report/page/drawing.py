"""Draws figures in processes of their own, which get ready while the files are still being read.

They alone import matplotlib.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lorabench.analysis.claims.claim import Figure
from lorabench.report.page.estimated import Strip
from lorabench.report.page.scenarios import Row

if TYPE_CHECKING:
    from lorabench.report.page.canvas import Drawn

_MOST_PROCESSES = 4


class Drawing:
    """Takes figures in and gives them back by name."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool
        self._drawn: dict[str, Future[Drawn]] = {}

    def claim(self, name: str, figure: Figure, rows: Sequence[Mapping[str, Any]], drawn: Collection[str] = ()) -> None:
        """Starts the figure of a claim's table: of the series ``drawn`` alone, where it names any."""
        self._drawn[name] = self._pool.submit(_claim, name, figure, tuple(map(dict, rows)), drawn)

    def scenario(self, name: str, phases: Sequence[str], rows: Sequence[Row]) -> None:
        """Starts the figure of a scenario's cases."""
        self._drawn[name] = self._pool.submit(_scenario, name, phases, rows)

    def estimates(self, name: str, strips: Sequence[Strip]) -> None:
        """Starts the figure of what people use instead of a prediction."""
        self._drawn[name] = self._pool.submit(_estimates, name, strips)

    def drawn(self) -> Mapping[str, Drawn]:
        """All that were started, once they are done."""
        return {name: future.result() for name, future in self._drawn.items()}


@contextmanager
def drawing() -> Iterator[Drawing]:
    """Enter early: a process takes a second to import matplotlib.

    Where it is left by an exception, the processes are ended whatever they are at.
    """
    processes = min(_MOST_PROCESSES, len(os.sched_getaffinity(0)))
    others = multiprocessing.active_children()
    # Spawned, for a fork of a process that has threads (numpy's) may hang.
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _ignore_interrupts)
    try:
        # What is started in here inherits it: a Ctrl-C may come before the initializer does.
        with _interrupts_held_back():
            for _ in range(processes):
                pool.submit(_get_ready)
        yield Drawing(pool)
        pool.shutdown()
    except BaseException as ended:
        if isinstance(ended, KeyboardInterrupt):
            # All ends here: a second Ctrl-C would only leave processes behind.
            _ignore_interrupts()
        for process in multiprocessing.active_children():
            if process not in others:
                process.kill()
        # Waited for: a pool that is still closing its pipes when the interpreter ends is written to there (in 3.11).
        pool.shutdown(cancel_futures=True)
        raise


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """A Ctrl-C inside is felt afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ignore_interrupts() -> None:
    # A terminal sends Ctrl-C to every process: the one that started the others ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _get_ready() -> None:
    import lorabench.report.page.claim_figure
    import lorabench.report.page.estimates_figure
    import lorabench.report.page.scenario_figure  # noqa: F401

    # What was imported stays; figures are rings of references, and looking for them need not pass through all of it.
    gc.freeze()


def _claim(name: str, figure: Figure, rows: Sequence[Mapping[str, Any]], drawn: Collection[str]) -> Drawn:
    from lorabench.report.page.claim_figure import draw_claim

    return draw_claim(name, figure, rows, drawn)


def _scenario(name: str, phases: Sequence[str], rows: Sequence[Row]) -> Drawn:
    from lorabench.report.page.scenario_figure import draw_scenario

    return draw_scenario(name, phases, rows)


def _estimates(name: str, strips: Sequence[Strip]) -> Drawn:
    from lorabench.report.page.estimates_figure import draw_estimates

    return draw_estimates(name, strips)
