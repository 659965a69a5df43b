"""``lorabench predict``."""

from __future__ import annotations

from typing import Annotated

import typer

from lorabench.catalog import find_card
from lorabench.cli.options import AsJson, Gpu, Model, ScenarioPaths, Select, Set
from lorabench.cli.run import ExitFirst, Force, Out, Quiet, Resume, TrustRemoteCode, run_scenarios

Estimates = Annotated[
    bool,
    typer.Option(
        "--estimates",
        help="Ask accelerate, PyTorch's MemTracker and the usual arithmetic too; their error goes into a report with "
        "measured records of the same cases. MemTracker takes up to minutes a case.",
    ),
]


def predict(
    paths: ScenarioPaths,
    select: Select = "",
    gpu: Gpu = "",
    model: Model = None,
    overrides: Set = None,
    out: Out = None,
    resume: Resume = False,
    force: Force = False,
    exit_first: ExitFirst = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    estimates: Estimates = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Predict the bytes that a GPU would use, without one: an H100's, or those of the card that --gpu names.

    With --gpu each case is told to fit or not: what does not fit ends as oom, as it would on the card.

    Of a lifecycle that is its memory; what it compares needs values. A case
    with an operator that was not audited for the memory that its CUDA kernel
    takes ends as failed, with the operator's name.
    """
    run_scenarios(
        paths,
        select,
        f"fake:{find_card(gpu).name}" if gpu else "fake",
        model,
        overrides,
        out=out,
        resume=resume,
        force=force,
        exit_first=exit_first,
        as_json=as_json,
        quiet=quiet,
        trust_remote_code=trust_remote_code,
        estimates=estimates,
    )
