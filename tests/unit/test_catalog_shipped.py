"""What the package knows of the shipped scenarios is what the repository has."""

from __future__ import annotations

from pathlib import Path

from lorabench.catalog.shipped import SCENARIOS_FOLDER, SHIPPED
from lorabench.scenario import load_scenarios

ROOT = Path(__file__).parents[2]


def test_each_shipped_scenario_has_its_file() -> None:
    files = [*(ROOT / SCENARIOS_FOLDER).rglob("*.yaml"), *(ROOT / "tests" / "gpu").glob("accuracy*.yaml")]
    found = {
        scenario.name: path.relative_to(ROOT).as_posix() for path in files for scenario in load_scenarios([path], "cpu")
    }
    assert found == SHIPPED
    assert len(files) == len(SHIPPED)
