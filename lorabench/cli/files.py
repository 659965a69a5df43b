"""The files that a command reads and writes: none takes the place of another."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from lorabench.errors import InputError


def refuse_overwriting(read: Iterable[tuple[str, Path]], written: Mapping[str, Path | None]) -> None:
    """What is read must not be written to, nor one file be written twice; files go by argument or option.

    Raises:
        InputError: two of them are one file.
    """
    seen: dict[tuple[int, int] | str, str] = {}
    for option, path in read:
        seen.setdefault(_identity(path), option)
    for option, given in written.items():
        if given is None:
            continue
        same = seen.setdefault(_identity(given), option)
        if same != option:
            raise InputError(f"{same} and {option}: both are {given}: name two files")


def _identity(path: Path) -> tuple[int, int] | str:
    """What two names of one file share, hard links included."""
    try:
        status = path.stat()
    except OSError:
        return os.path.realpath(path)
    return status.st_dev, status.st_ino
