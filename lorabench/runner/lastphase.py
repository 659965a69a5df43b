"""The phase that a process is in, kept where it outlives the process. Standard library only.

A pipe write in a timed step would be part of the time. A page of shared memory costs a copy, and the server can
read it after the worker was killed without warning.
"""

from __future__ import annotations

import mmap
import os
import struct

_SLOT = struct.Struct("<iB59s")
_NO_CASE = -1


class LastPhase:
    """One slot of shared memory behind a file descriptor: written by the worker, read by the server."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._memory = mmap.mmap(fd, _SLOT.size)
        self._packed: dict[tuple[str, int], bytes] = {}

    @classmethod
    def create(cls) -> LastPhase:
        fd = os.memfd_create("lorabench-phase")
        os.ftruncate(fd, _SLOT.size)
        slot = cls(fd)
        slot.clear()
        return slot

    def clear(self) -> None:
        self._memory[:] = _SLOT.pack(_NO_CASE, 0, b"")

    def set(self, name: str, case: int) -> None:
        """Names over 59 bytes are cut. A phase's second visit costs a dictionary look-up and a copy."""
        packed = self._packed.get((name, case))
        if packed is None:
            text = name.encode()[:59]
            packed = self._packed[name, case] = _SLOT.pack(case, len(text), text)
        self._memory[:] = packed

    def get(self) -> tuple[str | None, int | None]:
        """The phase's name and its case's index in the job; None and None before the first."""
        case, length, text = _SLOT.unpack(self._memory[:])
        if case == _NO_CASE:
            return None, None
        return text[:length].decode(errors="replace"), case
