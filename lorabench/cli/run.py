"""``lorabench run``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorabench.cli.files import refuse_overwriting, results_file
from lorabench.cli.loading import load_cases, scenario_files
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
Force = Annotated[bool, typer.Option("--force", help="Replace the results file that --out names.")]
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
    if devices is not None and device != "auto":
        raise InputError("--device and --devices: choose one")
    run_scenarios(
        paths,
        select,
        device if devices is None else devices,
        model,
        overrides,
        out=out,
        resume=resume,
        force=force,
        exit_first=exit_first,
        as_json=as_json,
        quiet=quiet,
        trust_remote_code=trust_remote_code,
    )


def run_scenarios(
    paths: Sequence[Path],
    select: str,
    device: str,
    model: str | None,
    overrides: Sequence[str] | None,
    *,
    out: Path | None,
    resume: bool,
    force: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """What ``run`` and ``predict`` do; ``options`` are those of :func:`lorabench.runner.run.run` alone.

    Raises:
        InputError: what was asked for is refused.
        Exit: a case did not end ok.
    """
    from lorabench.environment import resolve_devices
    from lorabench.report.terminal import open_console, print_line, print_records, records_of
    from lorabench.results import read_results

    existing = _existing(out, resume, force)
    targets = resolve_devices(device)
    device_type = targets[0].device.type
    scenarios, cases = load_cases(paths, device_type, model, overrides, select)
    refuse_overwriting(scenario_files(paths, scenarios), {"--out": out})
    if out is not None and resume and out.is_file() and out.stat().st_size:
        # Said before the run cuts a torn line off.
        for warning in read_results(out).warnings:
            typer.echo(warning, err=True)
    with results_file(out, device_type) as path:
        _run(
            cases,
            as_json=as_json,
            quiet=quiet,
            device=",".join(target.spec for target in targets),
            out=path,
            existing=existing,
            **options,
        )
    records = records_of(cases, read_results(path).latest())
    if not as_json:
        console = open_console()
        print_records(console, records)
        print_line(console, f"results: {path}")
    elif not quiet:
        typer.echo(f"results: {path}", err=True)
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
        begun = out.exists() and out.stat().st_size
        kept = f"what is finished is kept: go on with --resume --out {out}" if begun else "nothing was finished"
        typer.echo(f"interrupted; {kept}", err=True)
        raise


def _existing(out: Path | None, resume: bool, force: bool) -> Existing:
    if resume and force:
        raise InputError("--resume and --force: choose one")
    if (resume or force) and out is None:
        raise InputError(f"{'--resume' if resume else '--force'}: say which file with --out")
    return "resume" if resume else "replace" if force else "refuse"
