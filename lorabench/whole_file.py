"""A file that is written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Makes ``text`` what the file ``path`` holds; its folder is made where it is missing.

    Raises:
        OSError: the system refuses. What the file held before, it still holds.
    """
    if path.exists() and not path.is_file():
        # A pipe or a device holds nothing and cannot be replaced.
        path.write_text(text, encoding="utf-8")
        return
    # The file behind a link is replaced, not the link.
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
