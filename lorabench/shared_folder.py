"""A folder for what the jobs of one server can use again. Standard library only: the server runs anywhere."""

from __future__ import annotations

import os
from pathlib import Path

_VARIABLE = "LORABENCH_SHARED_FOLDER"


def share(folder: Path) -> None:
    """Have this process, and those that it starts, find ``folder``."""
    os.environ[_VARIABLE] = str(folder)


def shared_folder() -> Path | None:
    """None where nothing was shared: then nobody comes later who could use it."""
    folder = os.environ.get(_VARIABLE)
    return Path(folder) if folder else None
