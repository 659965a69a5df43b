"""From the arguments of a command to its cases."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabench.case import Case
    from lorabench.scenario import Scenario


def load_cases(
    paths: Sequence[Path], device_type: str, model: str | None, overrides: Sequence[str] | None, select: str
) -> tuple[list[Scenario], list[Case]]:
    """The scenarios of ``paths``, and their cases that ``select`` chooses; what is left out is said on stderr.

    That is what the model of ``--model`` cannot be.

    Raises:
        InputError: as :func:`lorabench.scenario.load_scenarios` and :func:`lorabench.scenario.select`.
    """
    from lorabench.scenario import load_scenarios
    from lorabench.scenario import select as select_cases

    scenarios = load_scenarios(paths, device_type, model, overrides or ())
    cases = select_cases([case for scenario in scenarios for case in scenario.cases], select)
    for why, count in Counter(why for scenario in scenarios for why in scenario.left_out).items():
        typer.echo(f"left out {count} {'case' if count == 1 else 'cases'}: {why}", err=True)
    return scenarios, cases


def scenario_files(paths: Sequence[Path], scenarios: Sequence[Scenario]) -> list[tuple[str, Path]]:
    """What was read for ``scenarios``, as :func:`lorabench.cli.files.refuse_overwriting` takes it."""
    # Both: a path may be a folder, and a scenario's file is a name made fit to print.
    return [("PATH", path) for path in (*paths, *(Path(scenario.file) for scenario in scenarios))]
