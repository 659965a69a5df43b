"""Folders of jobs: removed in the end, and by the next server where the end never came."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lorabench.runner.scratch import scratch_folder, sweep, use_for_temporary_files


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_the_folder_is_removed_with_all_that_is_in_it(root):
    with scratch_folder() as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").touch()
        assert folder.parent == root
    assert list(root.iterdir()) == []


def test_it_is_removed_after_an_error(root):
    with pytest.raises(ZeroDivisionError), scratch_folder():
        raise ZeroDivisionError
    assert list(root.iterdir()) == []


def test_a_folder_in_use_is_not_swept(root):
    with scratch_folder() as folder:
        sweep()
        assert list(root.iterdir()) == [folder]


def test_others_folders_are_not_swept(root):
    (root / "lorabench-jobs").mkdir()
    (root / "other").mkdir()
    target = root / "target"
    target.mkdir()
    (root / "lorabench-job-link").symlink_to(target)
    sweep()
    assert {path.name for path in root.iterdir()} == {"lorabench-jobs", "other", "target", "lorabench-job-link"}


CHILD = """
import os, sys
from lorabench.runner.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "file").touch()
    if os.fork() == 0:
        os.read(0, 1)
        os._exit(0)
    print(folder, flush=True)
    os.read(0, 1)
"""


def test_what_a_killed_server_left_is_swept_once_its_child_is_gone_too(root):
    read_fd, write_fd = os.pipe()
    server = subprocess.Popen([sys.executable, "-c", CHILD], stdin=read_fd, stdout=subprocess.PIPE, text=True)
    os.close(read_fd)
    folder = Path(server.stdout.readline().strip())
    server.send_signal(signal.SIGKILL)
    server.wait()
    sweep()
    assert (folder / "file").exists(), "its child lives, and may be writing"
    os.close(write_fd)
    # The child has the other end of the pipe until it is gone.
    assert server.stdout.read() == ""
    sweep()
    assert not folder.exists()
    assert list(root.iterdir()) == []


def test_temporary_files_go_where_they_are_told(root, monkeypatch):
    inner = root / "inner"
    inner.mkdir()
    use_for_temporary_files(inner)
    command = [sys.executable, "-c", "import tempfile; print(tempfile.gettempdir())"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == str(inner)
    with tempfile.TemporaryDirectory() as folder:
        assert Path(folder).parent == inner
