"""``lorabench ab``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorabench.cli.ci_files import Junit, Markdown, refuse_unwritable, write_junit, write_markdown
from lorabench.cli.files import refuse_overwriting, results_file
from lorabench.cli.loading import load_cases, scenario_files
from lorabench.cli.options import AsJson, Device, Model, ScenarioPaths, Select, Set
from lorabench.cli.run import Force, Out, Quiet, TrustRemoteCode
from lorabench.errors import InputError

if TYPE_CHECKING:
    from lorabench.ab.run import Options
    from lorabench.analysis.paired.comparison import Comparison, Side
    from lorabench.case import Case
    from lorabench.environment import Environment, Target


def ab(
    paths: ScenarioPaths,
    base: Annotated[
        str, typer.Option("--base", metavar="PYTHON", help="The interpreter of before.", show_default=False)
    ],
    head: Annotated[
        str, typer.Option("--head", metavar="PYTHON", help="The interpreter of after.", show_default=False)
    ],
    select: Select = "",
    device: Device = "auto",
    model: Model = None,
    overrides: Set = None,
    pairs: Annotated[
        int, typer.Option("--pairs", min=4, max=1000, help="The most pairs of processes that a case gets.")
    ] = 24,
    budget_s: Annotated[
        float,
        typer.Option("--budget-s", metavar="SECONDS", min=1.0, help="Time for each case; cases share what is left."),
    ] = 600.0,
    alpha: Annotated[
        float, typer.Option("--alpha", min=1e-6, max=0.2, help="Risk of a false slower or faster in the whole run.")
    ] = 0.01,
    floor: Annotated[
        float, typer.Option("--floor", min=1e-4, max=0.5, help="Changes within this share do not matter.")
    ] = 0.03,
    ahead: Annotated[
        int, typer.Option("--ahead", metavar="PAIRS", min=1, max=64, help="Pairs that import at the same time.")
    ] = 1,
    strict: Annotated[bool, typer.Option("--strict", help="Inconclusive fails, too.")] = False,
    out: Out = None,
    force: Force = False,
    junit: Junit = None,
    markdown: Markdown = None,
    seed: Annotated[int, typer.Option("--seed", help="Draws which of a pair is measured first.")] = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Compare the time of cases under two interpreters, as of two virtual environments.

    Pairs of processes are measured in turn, in an order drawn by lot, until
    every verdict is settled: slower, faster, equivalent, or, if pairs or time
    run out, inconclusive. The same interpreter twice is allowed. The
    interpreters need torch, transformers and peft, and not lorabench.

    Exit codes: 0 nothing is slower, 1 something is (with --strict: or is
    inconclusive), 2 bad input, 4 a process did not end ok.
    """
    from lorabench.ab.run import Options
    from lorabench.analysis.paired.judgement import Rules
    from lorabench.environment import resolve_device

    if device == "fake":
        raise InputError("--device fake: a prediction has no time to compare; cpu or cuda would be right")
    if force and out is None:
        raise InputError("--force: say which file with --out")
    target = resolve_device(device)
    scenarios, cases = load_cases(paths, target.device.type, model, overrides, select)
    pythons: dict[Side, str] = {"base": base, "head": head}
    read = [*scenario_files(paths, scenarios), *((f"--{side}", Path(python)) for side, python in pythons.items())]
    refuse_overwriting(read, {"--out": out, "--junit": junit, "--markdown": markdown})
    refuse_unwritable(junit, markdown)
    options = Options(Rules(alpha, floor, pairs), budget_s, ahead, seed)
    with results_file(out, f"ab-{target.device.type}") as path:
        comparison = _run(cases, pythons, target, options, path, force, as_json, quiet, trust_remote_code)
    # The verdict comes first: it is not lost where a file cannot be written, nor a file where nobody reads stdout.
    try:
        _print(comparison, strict, as_json, quiet, path)
    finally:
        _write(comparison, strict, junit, markdown)
    if code := comparison.exit_code(strict):
        raise typer.Exit(code)


def _run(
    cases: list[Case],
    pythons: Mapping[Side, str],
    target: Target,
    options: Options,
    out: Path,
    force: bool,
    as_json: bool,
    quiet: bool,
    trust_remote_code: bool,
) -> Comparison:
    """Runs to the end, with progress on stderr."""
    from lorabench.ab.run import run
    from lorabench.report.paired import words
    from lorabench.report.progress import show_progress

    def tell(environments: Mapping[Side, Environment]) -> None:
        if not as_json:
            for line in words.sides(environments):
                typer.echo(line)

    try:
        with show_progress(quiet=quiet, results_on_terminal=False) as progress:
            return run(
                cases,
                pythons,
                target,
                options=options,
                out=out,
                existing="replace" if force else "refuse",
                trust_remote_code=trust_remote_code,
                progress=progress,
                begun=tell,
            )
    except KeyboardInterrupt:
        begun = out.exists() and out.stat().st_size
        kept = f"the samples taken are in {out}" if begun else "nothing was measured"
        typer.echo(f"interrupted; {kept}", err=True)
        raise


def _write(comparison: Comparison, strict: bool, junit: Path | None, markdown: Path | None) -> None:
    from lorabench.report.paired import files

    try:
        if junit is not None:
            write_junit(junit, files.junit(comparison, strict))
    finally:
        if markdown is not None:
            write_markdown(markdown, files.markdown(comparison, strict))


def _print(comparison: Comparison, strict: bool, as_json: bool, quiet: bool, out: Path) -> None:
    from lorabench.report.paired import words
    from lorabench.report.paired.terminal import print_comparison
    from lorabench.report.terminal import open_console, print_line

    if not as_json:
        console = open_console()
        print_comparison(console, comparison, strict)
        print_line(console, f"results: {out}")
        return
    for answer in comparison.answers:
        typer.echo(json.dumps(answer.to_dict()))
    whole = {
        "type": "ab",
        "verdict": "failed" if comparison.fails(strict) else "passed",
        "exit_code": comparison.exit_code(strict),
        "rules": asdict(comparison.rules),
        "ended": comparison.ended,
        "pairs": comparison.pairs,
        "seconds": comparison.seconds,
        "lost": comparison.lost,
        "versions": {side: dict(known.versions) for side, known in comparison.environments.items()},
    }
    typer.echo(json.dumps(whole))
    if not quiet:
        typer.echo(f"{words.verdict_line(comparison, strict)}; results: {out}", err=True)
    sys.stdout.flush()
