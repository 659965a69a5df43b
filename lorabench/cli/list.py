"""``lorabench list``."""

from __future__ import annotations

import json

import typer

from lorabench.cli.loading import load_cases
from lorabench.cli.options import AsJson, Device, Model, ScenarioPaths, Select, Set


def list_cases(
    paths: ScenarioPaths,
    select: Select = "",
    device: Device = "auto",
    model: Model = None,
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """List the cases that scenarios expand to; nothing is run."""
    from lorabench.environment import resolve_device
    from lorabench.report.cases import print_cases
    from lorabench.report.terminal import open_console

    scenarios, cases = load_cases(paths, resolve_device(device).device.type, model, overrides, select)
    if not as_json:
        print_cases(open_console(), cases, {scenario.name: scenario.question for scenario in scenarios})
        return
    for case in cases:
        typer.echo(json.dumps({"name": case.name, "key": case.key, **case.to_dict()}))
