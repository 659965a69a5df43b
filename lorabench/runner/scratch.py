"""Temporary folders of jobs, removed whatever becomes of the processes. Standard library only.

A job's files lie in a folder that the server makes for it and removes when the job's process has ended, by whatever
signal; what jobs share lies in one that the server removes at its own end. A server that is killed leaves both behind;
the next server to start removes them. It knows which are left behind by their locks: the kernel lets go of a lock when
the last process that holds it is gone, in whatever container it ran.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = "lorabench-job-"
# Under this name it is nobody's to remove: it has no lock yet.
_UNLOCKED_PREFIX = "lorabench-new-"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder, locked as long as this process or a child forked within lives; removed in the end."""
    unlocked = Path(tempfile.mkdtemp(prefix=_UNLOCKED_PREFIX))
    fd = os.open(unlocked, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        folder = unlocked.rename(unlocked.with_name(_PREFIX + unlocked.name.removeprefix(_UNLOCKED_PREFIX)))
        try:
            yield folder
        finally:
            _remove(folder)
    finally:
        os.close(fd)


def use_for_temporary_files(folder: Path) -> None:
    """Have this process, and those that it starts, put all their temporary files there."""
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)


def sweep() -> None:
    """Remove the folders of jobs whose servers were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            # Another's, or gone by now.
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(folder)
        except BlockingIOError:
            pass
        finally:
            os.close(fd)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
