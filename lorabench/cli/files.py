"""The files that a command reads and writes: none takes the place of another."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from lorabench.errors import InputError, ResultsError


@contextmanager
def results_file(given: Path | None, kind: str) -> Iterator[Path]:
    """The file that ``--out`` names, or a new one in results/, with its time and ``kind`` in its name.

    The new one is there, empty, when this returns, and gone at the end if it still is. Of runs that start within one
    second all but the first have a number in its name.

    Raises:
        ResultsError: the system refuses.
    """
    if given is not None:
        yield given
        return
    folder, stem = Path("results"), f"{time.strftime('%Y%m%d-%H%M%S')}-{kind}"
    for number in itertools.count(1):
        path = folder / f"{stem}{f'-{number}' if number > 1 else ''}.jsonl"
        try:
            folder.mkdir(exist_ok=True)
            descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o666)
            break
        except FileExistsError:
            # Not the file's name but the folder's may be what is taken.
            if not folder.is_dir():
                raise ResultsError(f"{folder}: is no folder: name another file with --out") from None
        except OSError as error:
            raise ResultsError(f"{path}: cannot be written: {error.strerror}") from None
    try:
        yield path
    finally:
        status = os.fstat(descriptor)
        # Without a link it was removed by who wrote nothing into it, and its name may be another run's by now.
        if status.st_size == 0 and status.st_nlink:
            with suppress(OSError):
                path.unlink()
        os.close(descriptor)


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
