"""``lorabench fit``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lorabench.cli.loading import load_cases
from lorabench.cli.options import AsJson, Gpu, Model, ScenarioPaths, Select, Set
from lorabench.cli.run import Quiet, TrustRemoteCode
from lorabench.errors import EXIT_CASE_NOT_OK, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabench.case import Case
    from lorabench.fitting import Answer
    from lorabench.record import Record

OverChoice = Literal["batch_size", "sequence_length", "adapter.rank"]


def fit(
    paths: ScenarioPaths,
    gpu: Gpu,
    over: Annotated[OverChoice, typer.Option("--over", help="The axis to search; it is dropped from the matrix.")] = (
        "batch_size"
    ),
    margin: Annotated[
        str, typer.Option("--margin", metavar="SIZE", help="Room to keep free: '2GiB', or '5%' of what is usable.")
    ] = "0",
    select: Select = "",
    model: Model = None,
    overrides: Set = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Find the largest batch, length or rank that fits a GPU, by prediction: no GPU needed.

    There is an answer for each combination of the scenario's other axes. A
    value fits if the case runs to its end, loading included, on a model of
    CUDA's allocator with the card's capacity. A case whose prediction fails
    makes the exit code 4, after all have been searched.
    """
    from lorabench.catalog import find_card
    from lorabench.fitting import AXES, find_largest
    from lorabench.report.fits import print_answers
    from lorabench.report.terminal import open_console

    card = find_card(gpu)
    if any(text.partition("=")[0].strip() == over for text in overrides or ()):
        raise InputError(f"--set {over}: --over {over} searches it; leave one of them out")
    # An option fixes its key, and drops its axis.
    fixed = [*(overrides or ()), f"{over}={AXES[over].smallest}"]
    _, cases = load_cases(paths, "fake", model, fixed, select)
    answers: list[Answer] = []
    for answer in find_largest(
        cases,
        card,
        over,
        margin=margin,
        trust_remote_code=trust_remote_code,
        on_probe=_silent if quiet else _tell,
    ):
        answers.append(answer)
        if as_json:
            typer.echo(json.dumps(answer.to_dict()))
    if not as_json:
        print_answers(open_console(), [answer.to_dict() for answer in answers])
    _exit(answers)


def _exit(answers: Sequence[Answer]) -> None:
    if any(answer.stopped_by == "failed" for answer in answers):
        raise typer.Exit(EXIT_CASE_NOT_OK)


def _tell(case: Case, record: Record) -> None:
    verdict = {"ok": "fits", "oom": "does not fit"}.get(record.status, record.status)
    typer.echo(f"{case.name} {verdict} {record.wall_s:.1f} s", err=True)


def _silent(case: Case, record: Record) -> None:
    """Progress is shown to nobody."""
