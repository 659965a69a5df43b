"""Files for a CI that ``gate`` and ``ab`` write: JUnit XML, and Markdown for a pull request or a step's summary."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from lorabench.errors import InputError

Junit = Annotated[
    Path | None,
    typer.Option("--junit", metavar="FILE", help="Write JUnit XML, a test a case and metric.", show_default=False),
]
Markdown = Annotated[
    Path | None,
    typer.Option(
        "--markdown",
        metavar="FILE",
        help="Write Markdown for a pull request; appended where FILE is $GITHUB_STEP_SUMMARY.",
        show_default=False,
    ),
]


def write_junit(path: Path, text: str) -> None:
    """``text`` into the file that ``--junit`` names; ``InputError`` where it cannot be written."""
    _write(path, "--junit", text, "w")


def write_markdown(path: Path, text: str) -> None:
    """``text`` into the file that ``--markdown`` names; ``InputError`` where it cannot be written."""
    # A step's summary is shared by all that the step runs.
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    shared = bool(summary) and path.resolve() == Path(str(summary)).resolve()
    _write(path, "--markdown", text, "a" if shared else "w")


def _write(path: Path, option: str, text: str, mode: Literal["a", "w"]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise InputError(f"{option} {path}: cannot be written: {error.strerror}") from None
