"""What a job writes into its temporary folder is gone after it, however its process, or its server, ended."""

from __future__ import annotations

import contextlib
import signal
import tempfile
import time

import pytest

from lorabench.environment import resolve_device
from lorabench.runner.launcher import Work
from lorabench.runner.local import LocalLauncher

SERVER = ("--worker", "file_workers:run_job", "--preload", "")
WITHIN_S = 5.0


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield tmp_path
    tempfile.tempdir = None


class Watcher:
    """Sees the worker's files while they are there."""

    def __init__(self, root):
        self.root, self.seen = root, []

    def phase(self, case, name):
        if name.startswith("in lorabench-job-"):
            # Another job's folder may go while this one's is looked for.
            with contextlib.suppress(FileNotFoundError):
                self.seen += self.root.rglob("weights")

    def planned(self, cases): ...

    def started(self, case, repeat): ...

    def finished(self, record): ...

    def warning(self, text): ...


def launch(root, *options):
    watcher = Watcher(root)
    return LocalLauncher(resolve_device("cpu"), progress=watcher, server_options=(*SERVER, *options)), watcher


def left(root):
    return [path.name for path in root.iterdir()]


@pytest.mark.parametrize("options", [(), ("--spawn",)])
@pytest.mark.parametrize("behaviour", ["hang-asleep", "raise-error", "segfault", "kill-itself", "exit-with-three"])
def test_nothing_is_left_of_a_job(root, behave, behaviour, options):
    launcher, watcher = launch(root, *options)
    timeout_s = 2.0 if behaviour == "hang-asleep" else 60.0
    with launcher:
        [record] = launcher.run([Work((behave(behaviour, timeout_s=timeout_s),))])
        assert record.status in ("failed", "timeout")
        [shared] = root.iterdir()
        assert list(shared.iterdir()) == [], "the server's own, for what its jobs share"
    assert left(root) == []
    if behaviour == "hang-asleep":
        # The others may be over before anyone looks.
        assert watcher.seen[0].parts[-3].startswith("lorabench-job-")


def test_jobs_do_not_share_a_folder(root, behave):
    launcher, _ = launch(root)
    with launcher:
        records = list(launcher.run([Work((behave("raise-error", number=number),)) for number in range(3)]))
    assert [record.status for record in records] == ["failed"] * 3
    assert left(root) == []


def test_what_a_killed_server_left_is_removed_by_the_next(root, behave):
    launcher, _ = launch(root)
    with launcher:
        [lost] = launcher.run([Work((behave("kill-server"),))])
        assert lost.error.type == "ServerDied"
        assert len(left(root)) == 2, "the job's, and the one that the server's jobs shared"
        [after] = launcher.run([Work((behave("work", number=1),))])
        assert after.status == "ok"
    assert left(root) == []


def test_nothing_is_left_when_the_parent_lets_go(root, behave):
    launcher, watcher = launch(root)
    steps = launcher.run([Work((behave("hang-asleep"),))])

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 3.0)
        with pytest.raises(KeyboardInterrupt):
            next(steps)
    finally:
        signal.signal(signal.SIGALRM, before)
    launcher.close()
    assert watcher.seen, "the job had begun"
    deadline = time.monotonic() + WITHIN_S
    while left(root) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert left(root) == []
