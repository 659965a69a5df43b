"""Appending to a results file: one writer at a time, and what was announced is on disk."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from lorabench.environment import Environment, EnvironmentDevice
from lorabench.errors import ResultsError
from lorabench.record import Record
from lorabench.results import Results, begins_as_results, read_stream
from lorabench.wording import counted

Existing = Literal["refuse", "resume", "replace"]
"""What to do about a file that holds something already."""


class ResultsFile:
    """A results file held for one run. ``earlier`` is what it held before: empty unless the run resumes.

    Nothing is changed before :meth:`begin`, so that a run that cannot start destroys nothing.
    """

    def __init__(self, path: Path, existing: Existing = "refuse", *, resumable: bool = True) -> None:
        """Opens and locks ``path``, making it and its folder where they are missing.

        ``resumable`` says whether messages may name ``--resume``: not each command has it.

        Raises:
            ResultsError: it holds something and ``existing`` is ``refuse``, another run is writing into it, it is no
                regular file, what it holds cannot be resumed or is not a results file's, or the system refuses.
        """
        self.path = path
        self.earlier = Results()
        self.records = 0
        self._resumable = resumable
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
        except OSError as error:
            raise ResultsError(f"{path}: cannot be written: {error.strerror}") from None
        try:
            self._end_bytes = self._take(existing)
        except BaseException:
            os.close(self._fd)
            raise

    def _take(self, existing: Existing) -> int:
        """Locks the file; returns the length of what will be kept."""
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            raise ResultsError(f"{self.path}: not a regular file: results are appended to one")
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ResultsError(f"{self.path}: another run is writing into it: choose another --out") from None
        if not _names(self.path, self._fd):
            # A run that finished nothing removes its empty file: what is written into that would be lost.
            raise ResultsError(f"{self.path}: another run has removed it this moment: start again")
        if os.fstat(self._fd).st_size == 0:
            return 0
        if existing == "refuse":
            ways = "--resume or --force" if self._resumable else "--force"
            raise ResultsError(f"{self.path}: exists: choose another --out, or say {ways}")
        with os.fdopen(os.dup(self._fd), "rb") as file:
            if existing == "replace":
                if not begins_as_results(file):
                    why = "not a results file, and nothing else is replaced"
                    raise ResultsError(f"{self.path}: {why}: choose another --out")
                return 0
            return read_stream(file, str(self.path), self.earlier)

    def begin(self, environment: Environment) -> None:
        """Cuts off what is not kept (a torn last line, or all when replacing) and describes where the run takes place.

        Raises:
            ResultsError: the run resumes one that was made on another device or with other library versions, or the
                system refuses to write.
        """
        self.hold_to(environment.device, environment.versions)
        self._cut()
        if environment.id not in self.earlier.environments:
            self._append(_line(environment.to_dict()))

    def hold_to(self, device: EnvironmentDevice, versions: Mapping[str, str]) -> None:
        """Raises ``ResultsError`` where what is kept was made on another device or with other library versions."""
        for known in self.earlier.environments.values():
            difference = describe_difference(known, replace(known, device=device, versions=versions))
            if difference:
                raise ResultsError(f"{self.path}: cannot be resumed: {difference}; choose another --out")

    def append(self, record: Record) -> None:
        """Writes one record; when this returns, it is on disk.

        Raises:
            ResultsError: the system refuses (a full disk, a quota). What was written before stays valid.
        """
        self._append(_line(record.to_dict()))
        self.records += 1

    def append_anew(self, record: Record) -> None:
        """Writes a record of :attr:`earlier` once more, of which something is known by now: the last line counts.

        Raises:
            ResultsError: as :meth:`append`.
        """
        self._cut()
        self._append(_line(record.to_dict()))

    def _cut(self) -> None:
        """Takes off what is not kept."""
        os.ftruncate(self._fd, self._end_bytes)
        if self._end_bytes and os.pread(self._fd, 1, self._end_bytes - 1) != b"\n":
            self._append(b"\n")

    def _append(self, data: bytes) -> None:
        written = 0
        try:
            while written < len(data):
                written += os.pwrite(self._fd, data[written:], self._end_bytes + written)
            os.fsync(self._fd)
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._end_bytes)
            if isinstance(error, OSError):
                raise ResultsError(self._refusal(error)) from None
            raise
        self._end_bytes += len(data)

    def _refusal(self, error: OSError) -> str:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        again = "go on with --resume" if self._resumable else "start again with another --out"
        remedy = f"make room and {again}" if full else f"{again} once this is mended"
        before = len(self.earlier.records) + self.records
        kept = f"the {counted(before, 'record')} written before {'is' if before == 1 else 'are'} kept; {remedy}"
        return f"{self.path}: cannot be written: {error.strerror}; {kept}"

    def close(self) -> None:
        """Lets go of the lock; a file in which nothing was written is removed."""
        if os.fstat(self._fd).st_size == 0:
            with contextlib.suppress(OSError):
                self.path.unlink()
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _names(path: Path, fd: int) -> bool:
    """Whether ``path`` still leads to the open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False


def describe_difference(before: Environment, now: Environment) -> str | None:
    """What keeps two environments' records apart: the device, or a library's version. None if nothing does."""
    if (before.device.type, before.device.name) != (now.device.type, now.device.name):
        there, here = (f"{device.type} ({device.name})" for device in (before.device, now.device))
        return f"it was made on {there}, and this is {here}"
    for library in sorted({*before.versions, *now.versions}):
        old, new = before.versions.get(library, "none"), now.versions.get(library, "none")
        if old != new:
            return f"it was made with {library} {old}, and this is {new}"
    return None


def _line(data: dict[str, Any]) -> bytes:
    return json.dumps(data, allow_nan=False).encode() + b"\n"
