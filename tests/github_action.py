"""Runs a step of action.yml as GitHub's runner does."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
ACTION: dict[str, Any] = YAML(typ="safe").load(ROOT / "action.yml")
STEPS: list[dict[str, Any]] = ACTION["runs"]["steps"]
EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")


def step(name: str) -> dict[str, Any]:
    return next(one for one in STEPS if one.get("name") == name)


def run_step(name: str, folder: Path, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """The script of a step in ``folder``, its inputs at their defaults where ``variables`` do not say otherwise."""
    one = step(name)
    inputs = {key: value.get("default", "") for key, value in ACTION["inputs"].items()}
    given = {key: _resolved(str(value), inputs) for key, value in one["env"].items()}
    runner = {"GITHUB_STEP_SUMMARY": str(folder / "summary.md"), "GITHUB_OUTPUT": str(folder / "outputs")}
    # The command line of "shell: bash" (docs.github.com, workflow syntax, jobs.<job_id>.steps[*].shell).
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", one["run"]]
    environment = {**runner, **given, **variables}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def _resolved(text: str, inputs: dict[str, str]) -> str:
    return EXPRESSION.sub(lambda found: inputs.get(found[1].removeprefix("inputs."), "/action"), text)
