"""``lorabench predict``."""

from __future__ import annotations

from lorabench.cli.options import AsJson, Model, ScenarioPaths, Select, Set
from lorabench.cli.run import ExitFirst, Force, Out, Quiet, Resume, TrustRemoteCode, run


def predict(
    paths: ScenarioPaths,
    select: Select = "",
    model: Model = None,
    overrides: Set = None,
    out: Out = None,
    resume: Resume = False,
    force: Force = False,
    exit_first: ExitFirst = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Predict the bytes that an H100 would use, without one: run with --device fake.

    In this version dense bf16 training can be predicted. Any other case ends as failed, with the reason.
    """
    run(
        paths,
        select,
        "fake",
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
