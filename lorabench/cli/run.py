"""``lorabench run``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorabench.cli.options import AsJson, Device, Devices, Model, ScenarioPaths, Select, Set
from lorabench.errors import EXIT_CASE_NOT_OK, InputError

if TYPE_CHECKING:
    from lorabench.case import Case
    from lorabench.results_file import Existing

Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FILE",
        help="Results file to write; a new one in results/ unless given.",
        show_default=False,
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with the file that --out names: finished cases are not run again.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace the file that --out names.")]
ExitFirst = Annotated[bool, typer.Option("-x", help="Stop after the first case that does not end ok.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Show no progress.")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Let a model from the hub or a folder run Python code of its own.")
]


def run(
    paths: ScenarioPaths,
    select: Select = "",
    device: Device = "auto",
    model: Model = None,
    overrides: Set = None,
    devices: Devices = None,
    out: Out = None,
    resume: Resume = False,
    force: Force = False,
    exit_first: ExitFirst = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Run scenarios, each case in a process of its own, and write what was measured to a results file.

    Ends with the results as a table. A case that does not end ok makes the exit code 4, after all have run.
    """
    from lorabench.environment import resolve_devices
    from lorabench.report.terminal import open_console, print_line, print_records, records_of
    from lorabench.results import read_results
    from lorabench.scenario import load_scenarios
    from lorabench.scenario import select as select_cases

    existing = _existing(out, resume, force)
    if devices is not None and device != "auto":
        raise InputError("--device and --devices: choose one")
    targets = resolve_devices(device if devices is None else devices)
    device_type = targets[0].device.type
    scenarios = load_scenarios(paths, device_type, model, overrides or ())
    cases = select_cases([case for scenario in scenarios for case in scenario.cases], select)
    if out is None:
        out = Path("results") / f"{time.strftime('%Y%m%d-%H%M%S')}-{device_type}.jsonl"
    elif resume and out.is_file() and out.stat().st_size:
        # Said before the run cuts a torn line off.
        for warning in read_results(out).warnings:
            typer.echo(warning, err=True)
    _run(
        cases,
        as_json=as_json,
        quiet=quiet,
        device=",".join(target.spec for target in targets),
        out=out,
        existing=existing,
        exit_first=exit_first,
        trust_remote_code=trust_remote_code,
    )
    records = records_of(cases, read_results(out).latest())
    if not as_json:
        console = open_console()
        print_records(console, records)
        print_line(console, f"results: {out}")
    elif not quiet:
        typer.echo(f"results: {out}", err=True)
    if any(record.status != "ok" for record in records):
        raise typer.Exit(EXIT_CASE_NOT_OK)


def _run(cases: Sequence[Case], *, out: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Runs to the end, with progress on stderr and, as JSON, each record on stdout."""
    from lorabench.report.progress import show_progress
    from lorabench.runner.run import run as run_cases

    try:
        with (
            show_progress(quiet=quiet, results_on_terminal=as_json and sys.stdout.isatty()) as progress,
            closing(run_cases(cases, out=out, progress=progress, **options)) as records,
        ):
            for record in records:
                if as_json:
                    typer.echo(json.dumps(record.to_dict()))
    except KeyboardInterrupt:
        kept = f"what is finished is kept: go on with --resume --out {out}" if out.exists() else "nothing was finished"
        typer.echo(f"interrupted; {kept}", err=True)
        raise


def _existing(out: Path | None, resume: bool, force: bool) -> Existing:
    if resume and force:
        raise InputError("--resume and --force: choose one")
    if (resume or force) and out is None:
        raise InputError(f"{'--resume' if resume else '--force'}: say which file with --out")
    return "resume" if resume else "replace" if force else "refuse"
