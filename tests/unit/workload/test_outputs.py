from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lorabench.case import Case
from lorabench.errors import InvalidCaseError
from lorabench.workload.outputs import MERGE_TOLERANCE, compare_arms, relative_difference

UNMERGED = Case(scenario="s", task="infer", model="m", quantization="fp32")
BASE = replace(UNMERGED, adapter_state="base")
MERGED = replace(UNMERGED, adapter_state="merged")


def logits(offset: float) -> torch.Tensor:
    return torch.arange(1.0, 9.0).reshape(2, 4) + offset


def test_the_relative_difference_is_that_of_the_norms() -> None:
    theirs = torch.tensor([[3.0, 4.0]])
    assert relative_difference(theirs + torch.tensor([[0.3, 0.4]]), theirs) == pytest.approx(0.1)
    assert relative_difference(theirs, torch.zeros(1, 2)) == pytest.approx(5.0)


def test_arms_are_compared_with_the_arms_that_differ_in_state_alone() -> None:
    base, unmerged, merged = compare_arms([BASE, UNMERGED, MERGED], [logits(0), logits(1), logits(1.0001)])
    assert set(base["output_difference"]) == {"unmerged", "merged"}
    assert set(unmerged["output_difference"]) == {"base", "merged"}
    assert merged["output_difference"]["unmerged"]["max_abs"] == pytest.approx(1e-4, rel=1e-2)


def test_arms_of_another_rank_share_the_base_alone() -> None:
    assert UNMERGED.adapter is not None
    other = replace(MERGED, adapter=replace(UNMERGED.adapter, rank=64))
    observations = compare_arms([BASE, UNMERGED, other], [logits(0), logits(1), logits(5)])
    assert set(observations[0]["output_difference"]) == {"unmerged", "merged"}
    assert set(observations[1]["output_difference"]) == {"base"}
    assert set(observations[2]["output_difference"]) == {"base"}


def test_a_merge_that_changes_the_model_is_invalid() -> None:
    with pytest.raises(InvalidCaseError, match="merged and unmerged outputs differ by"):
        compare_arms([UNMERGED, MERGED], [logits(1), logits(1.1)])


def test_not_a_number_is_a_disagreement() -> None:
    with pytest.raises(InvalidCaseError, match="not finite"):
        compare_arms([UNMERGED, MERGED], [logits(1), logits(float("nan"))])


def test_a_coarser_type_allows_what_fp32_refuses() -> None:
    arms = [replace(UNMERGED, quantization="bf16"), replace(MERGED, quantization="bf16")]
    relative = relative_difference(logits(1.1), logits(1))
    assert MERGE_TOLERANCE["fp32"] < relative < MERGE_TOLERANCE["bf16"]
    compare_arms(arms, [logits(1), logits(1.1)])


def test_an_adapter_that_changes_nothing_is_invalid() -> None:
    with pytest.raises(InvalidCaseError, match="changes nothing"):
        compare_arms([BASE, UNMERGED], [logits(0), logits(0)])
