"""Every time of the committed evidence has a limit beside it, but for those that results/h100/README.md tells of."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorabench.analysis.roofline import PHASES, rooflines
from lorabench.results import read_results

RESULTS = Path(__file__).parents[2] / "results"


@pytest.mark.parametrize(("device", "without"), [("h200", 0), ("h100", 111), ("cpu", 0)])
def test_a_timed_phase_has_its_limit(device, without):
    """A session's ceilings stand on few of its records: where one of them is replaced, the others would lose theirs."""
    records = read_results(*sorted((RESULTS / device).glob("*.jsonl"))).records
    timed = {
        (record.name, record.key, phase)
        for record in records
        if record.status == "ok" and record.case["task"] != "lifecycle"
        for phase in PHASES
        if phase in record.latency
    }
    bounded = {(roof.record.name, roof.record.key, roof.phase) for roof in rooflines(records)}
    assert timed
    assert len(timed - bounded) == without
