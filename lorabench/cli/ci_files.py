"""Files for a CI that ``gate`` and ``ab`` write: JUnit XML, and Markdown for a pull request or a step's summary."""

from __future__ import annotations

import errno
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


def refuse_unwritable(junit: Path | None, markdown: Path | None) -> None:
    """Before a long run: ``InputError`` where it can be told already that a file cannot be written. Makes nothing."""
    for option, path in (("--junit", junit), ("--markdown", markdown)):
        if path is None:
            continue
        # A folder that is missing will be made, in the nearest that is there.
        there = next(one for one in (path.absolute(), *path.absolute().parents) if os.path.exists(one))
        inside = there != path.absolute()
        if there.is_dir() != inside:
            raise _unwritable(option, path, os.strerror(errno.ENOTDIR if inside else errno.EISDIR))
        if not os.access(there, os.W_OK | (os.X_OK if inside else 0)):
            raise _unwritable(option, path, os.strerror(errno.EACCES))


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
        raise _unwritable(option, path, error.strerror) from None


def _unwritable(option: str, path: Path, why: str | None) -> InputError:
    return InputError(f"{option} {path}: cannot be written: {why}")
