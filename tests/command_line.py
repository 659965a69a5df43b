"""Runs the command in a process of its own, as its users do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import lorabench


def lorabench_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``lorabench ARGUMENTS`` in ``folder``, its output in pipes."""
    return subprocess.run(
        [sys.executable, "-m", "lorabench", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(lorabench.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=300,
    )
