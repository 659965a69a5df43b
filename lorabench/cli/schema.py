"""``lorabench schema``."""

from __future__ import annotations

import json

import typer


def schema() -> None:
    """Print the JSON schema of scenario files, for editors and other tools."""
    from lorabench.scenario import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))
