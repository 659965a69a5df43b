"""JSON Lines over a pipe's file descriptors, for processes that wait in ``poll``. Standard library only."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

CHUNK_BYTES = 1 << 16


def encode(message: Mapping[str, Any]) -> bytes:
    """One line of strict JSON.

    Raises:
        TypeError: a value has no JSON form.
        ValueError: a number is NaN or infinite.
    """
    return json.dumps(message, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class LineReader:
    """Cuts what arrives at ``fd`` into whole lines; a line that its writer never finished is never returned."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._rest = b""

    def read(self) -> list[bytes] | None:
        """The lines completed by one read, without their ends; None at end of file. Blocks if ``fd`` does.

        Raises:
            BlockingIOError: nothing to read from a non-blocking ``fd``.
        """
        data = os.read(self.fd, CHUNK_BYTES)
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines
