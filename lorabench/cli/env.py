"""``lorabench env``."""

from __future__ import annotations

import json

import typer

from lorabench.cli.options import AsJson, Device


def env(device: Device = "auto", as_json: AsJson = False) -> None:
    """Show what results would be recorded with: hardware, driver, library versions, git state."""
    from lorabench.environment import describe_environment, resolve_device
    from lorabench.interpreter import interpreter_facts
    from lorabench.report.details import print_details
    from lorabench.report.terminal import open_console

    environment = describe_environment(resolve_device(device), interpreter_facts()).to_dict()
    if as_json:
        typer.echo(json.dumps(environment))
    else:
        print_details(open_console(), environment)
