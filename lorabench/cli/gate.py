"""``lorabench gate``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorabench.cli.ci_files import Junit, Markdown, write_junit, write_markdown
from lorabench.cli.files import refuse_overwriting
from lorabench.cli.options import AsJson
from lorabench.errors import InputError
from lorabench.wording import counted, one_line

if TYPE_CHECKING:
    from lorabench.analysis.gate import Decision


def gate(
    results: Annotated[
        Path, typer.Argument(metavar="RESULTS", help="A results file, predicted or measured.", show_default=False)
    ],
    baseline: Annotated[
        Path,
        typer.Option(
            "--baseline", metavar="FILE", help="The committed results file to compare with.", show_default=False
        ),
    ],
    update: Annotated[
        bool, typer.Option("--update", help="Write the baseline anew from the results; its tolerances stay.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fewer bytes and cases that the baseline lacks fail, too.")
    ] = False,
    across_versions: Annotated[
        bool, typer.Option("--across-versions", help="Compare with a baseline of other hardware or library versions.")
    ] = False,
    allow_missing: Annotated[
        bool,
        typer.Option("--allow-missing", help="Cases that the results lack do not fail; --update keeps them."),
    ] = False,
    junit: Junit = None,
    markdown: Markdown = None,
    as_json: AsJson = False,
) -> None:
    """Fail if a case takes more bytes than in a committed baseline, or no longer ends ok.

    Static, dynamic and peak allocated bytes and the peak of each phase are
    compared to the byte, but for what tolerances in the baseline allow.
    Reserved and device-used bytes are shown only. Fewer bytes pass with a
    notice. A time that moved is a warning.

    Exit codes: 0 passed or updated, 1 a regression, 2 bad input, 3 no
    baseline, or one of other hardware or versions.
    """
    from lorabench.analysis.gate import Policy, judge, make_baseline, read_baseline, write_baseline
    from lorabench.analysis.gate.baseline import current
    from lorabench.results import read_results

    if update and (junit or markdown):
        raise InputError(f"--update and {'--junit' if junit else '--markdown'}: an update decides nothing; choose one")
    refuse_overwriting([("RESULTS", results), ("--baseline", baseline)], {"--junit": junit, "--markdown": markdown})
    found = read_results(results)
    records, warnings = current(found, str(results))
    before = read_baseline(baseline)
    for warning in (*found.warnings, *warnings, *(before.warnings if before else ())):
        typer.echo(warning, err=True)
    policy = Policy(strict, allow_missing, across_versions or update)
    decision = judge(before, records, found.environments, policy, str(baseline))
    if not update:
        # The verdict comes first: it is not lost where a file cannot be written, nor a file where nobody reads stdout.
        try:
            _print(decision, as_json)
        finally:
            _write(decision, junit, markdown)
        if decision.exit_code:
            raise typer.Exit(decision.exit_code)
        return
    made = make_baseline(found, records, before, keep=allow_missing)
    write_baseline(baseline, made)
    dropped = 0 if before is None else len(before.records) - len(before.kept_by(made))
    _print_update(decision, as_json, {"path": str(baseline), "cases": len(made.records), "dropped": dropped})


def _write(decision: Decision, junit: Path | None, markdown: Path | None) -> None:
    try:
        if junit is not None:
            from lorabench.report.gate.junit import junit as as_junit

            write_junit(junit, as_junit(decision))
    finally:
        if markdown is not None:
            from lorabench.report.gate.markdown import markdown as as_markdown

            write_markdown(markdown, as_markdown(decision))


def _print(decision: Decision, as_json: bool) -> None:
    from lorabench.report.gate.annotations import annotate, wanted
    from lorabench.report.gate.plain import json_lines
    from lorabench.report.gate.terminal import print_decision, print_obstacles
    from lorabench.report.terminal import open_console

    if as_json:
        for line in json_lines(decision):
            typer.echo(line)
    elif decision.verdict != "not comparable":
        print_decision(open_console(), decision)
    if decision.verdict == "not comparable":
        print_obstacles(open_console(sys.stderr), decision)
    if wanted(os.environ):
        # The runner reads both streams, and stdout is for results.
        for line in annotate(decision):
            typer.echo(line, err=True)


def _print_update(decision: Decision, as_json: bool, written: Mapping[str, str | int]) -> None:
    from lorabench.report.gate.plain import case_lines
    from lorabench.report.gate.terminal import print_cases
    from lorabench.report.terminal import open_console, print_line

    if as_json:
        for line in (*case_lines(decision), json.dumps({"type": "baseline", **written})):
            typer.echo(line)
        return
    console = open_console()
    print_cases(console, decision)
    told = counted(int(written["cases"]), "case")
    dropped = f"; dropped: {written['dropped']} (--allow-missing keeps them)" if written["dropped"] else ""
    print_line(console, one_line(f"baseline: {written['path']}: {told}{dropped}"))
