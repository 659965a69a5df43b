"""``lorabench trace``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorabench.cli.loading import load_cases
from lorabench.cli.options import AsJson, Device, Model, ScenarioPaths, Select, Set
from lorabench.cli.run import Quiet, TrustRemoteCode
from lorabench.errors import EXIT_CASE_NOT_OK, InputError

if TYPE_CHECKING:
    from lorabench.case import Case

Snapshot = Annotated[
    Path | None,
    typer.Option(
        "--snapshot",
        metavar="FILE",
        help="Write PyTorch's memory snapshot of one step, for pytorch.org/memory_viz; on CUDA alone.",
        show_default=False,
    ),
]
_MOST_NAMED = 3


def trace(
    paths: ScenarioPaths,
    select: Select = "",
    device: Device = "auto",
    model: Model = None,
    overrides: Set = None,
    snapshot: Snapshot = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Run one case and say what its bytes at the peak are: by category, by layer, by tensor. Nothing is timed."""
    from lorabench.environment import resolve_devices
    from lorabench.report.attribution import print_attribution
    from lorabench.report.progress import show_progress
    from lorabench.report.terminal import open_console
    from lorabench.runner.trace import trace as trace_case

    [target] = resolve_devices(device)
    _, cases = load_cases(paths, target.device.type, model, overrides, select)
    case = _one(cases)
    with show_progress(quiet=quiet, results_on_terminal=as_json and sys.stdout.isatty()) as progress:
        progress.planned(1)
        record = trace_case(case, target, snapshot=snapshot, trust_remote_code=trust_remote_code, progress=progress)
        progress.finished(record)
    if as_json:
        typer.echo(json.dumps(record.to_dict()))
    else:
        print_attribution(open_console(), record)
    if record.status != "ok":
        raise typer.Exit(EXIT_CASE_NOT_OK)


def _one(cases: Sequence[Case]) -> Case:
    """The one case to trace; a case that several scenarios share is one."""
    if len({case.key for case in cases}) == 1:
        return cases[0]
    names = ", ".join(case.name for case in cases[:_MOST_NAMED])
    more = ", ..." if len(cases) > _MOST_NAMED else ""
    raise InputError(f"-k: trace follows one case, and {len(cases)} match: {names}{more}")
