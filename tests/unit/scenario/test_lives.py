"""Scenarios of lives: what is refused, and what the shipped ones vary."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorabench.errors import ScenarioError
from lorabench.scenario import load_scenarios

SHIPPED = Path(__file__).parents[3] / "scenarios"
HEAD = "scenario: s\nquestion: What?\ntask: lifecycle\nmodel: llama-tiny\n"


def test_lives_are_not_timed_in_turn(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(HEAD + "matrix:\n  adapter_count: [1, 2]\ninterleave: [adapter_count]\n")
    with pytest.raises(ScenarioError, match=r"s\.yaml:6: matrix\.adapter_count: a lifecycle has no steps to time"):
        load_scenarios([file], "cpu")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_shipped_lives_hold_what_the_claims_need(device: str) -> None:
    files = [SHIPPED / f"{name}.yaml" for name in ("lifecycle", "lifecycle-bias", "adapter-count")]
    cases = [case for scenario in load_scenarios(files, device) for case in scenario.cases]
    assert {case.task for case in cases} == {"lifecycle"}
    assert {case.quantization for case in cases} >= {"fp32", "fp16", "bf16", "int8", "nf4"}
    assert {case.adapter_count for case in cases} >= {1, 8, 32, 64}
    adapters = [case.adapter for case in cases if case.adapter is not None]
    assert {adapter.bias for adapter in adapters} == {"none", "all", "lora_only"}
    assert {adapter.task_type for adapter in adapters} >= {"CAUSAL_LM", "SEQ_CLS"}
