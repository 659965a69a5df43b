"""Every time of the committed evidence has a limit beside it, but for those that results/h100/README.md tells of."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorabench.analysis.roofline import rooflines, without_limit
from lorabench.results import read_results

RESULTS = Path(__file__).parents[2] / "results"


@pytest.mark.parametrize(("device", "lacking"), [("h200", {}), ("h100", {"work": 111}), ("cpu", {})])
def test_a_timed_phase_has_its_limit(device, lacking):
    """A session's ceilings stand on few of its records: where one of them is replaced, the others would lose theirs."""
    records = read_results(*sorted((RESULTS / device).glob("*.jsonl"))).records
    assert rooflines(records)
    assert without_limit(records) == lacking
