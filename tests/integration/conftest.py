"""Processes for real, and a way to see which of them are left."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browsing import CHROMIUM
from playwright.sync_api import Browser, sync_playwright

from lorabench.case import Case, Measure
from lorabench.environment import resolve_device
from lorabench.runner.local import LocalLauncher

HERE = Path(__file__).parent
LIGHT_SERVER = ("--worker", "workers:run_job", "--preload", "")
"""A server that imports no torch and runs the workers of workers.py."""
GONE_WITHIN_S = 2.0


class Family:
    """The processes that a test started, and theirs: all that inherited a mark in the environment."""

    def __init__(self) -> None:
        self.mark = f"LORABENCH_TEST_FAMILY={uuid.uuid4()}"

    def pids(self) -> set[int]:
        """Those that live, without the test's own process."""
        found = set()
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal() and int(folder.name) != os.getpid() and self._belongs(folder):
                found.add(int(folder.name))
        return found

    def _belongs(self, folder: Path) -> bool:
        try:
            # Empty once the process is a zombie.
            return self.mark.encode() in (folder / "environ").read_bytes()
        except OSError:
            return False

    def left_after(self, seconds: float = GONE_WITHIN_S) -> set[int]:
        """Those that still live ``seconds`` from now; returns as soon as there are none."""
        deadline = time.monotonic() + seconds
        while (pids := self.pids()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return pids


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> Family:
    family = Family()
    name, _, value = family.mark.partition("=")
    monkeypatch.setenv(name, value)
    return family


@pytest.fixture(autouse=True)
def _workers_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)


@pytest.fixture(params=["fork", "spawn"])
def launcher(request: pytest.FixtureRequest) -> Iterator[LocalLauncher]:
    options = (*LIGHT_SERVER, "--spawn") if request.param == "spawn" else LIGHT_SERVER
    with LocalLauncher(resolve_device("cpu"), server_options=options) as launcher:
        yield launcher


@pytest.fixture
def behave() -> Callable[..., Case]:
    """A case whose worker behaves so; ``number`` tells apart cases that are otherwise the same."""

    def make(
        behaviour: str, number: int = 0, timeout_s: float = 60.0, repeats: int = 1, group: str | None = None
    ) -> Case:
        measure = Measure(timeout_s=timeout_s, repeats=repeats)
        return Case(behaviour, "train", "llama-tiny", seed=number, measure=measure, group=group)

    return make


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # A missing browser is a failure: what nobody looked at is not tested.
    assert CHROMIUM, "no Chromium: install one (apt-get install chromium)"
    with sync_playwright() as playwright:
        # Chromium's sandbox wants a user that is not root.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()
