from __future__ import annotations

from dataclasses import replace
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorabench.case import Case
from lorabench.errors import InvalidCaseError
from lorabench.workload import outputs
from lorabench.workload.outputs import MERGE_TOLERANCE, compare_arms, distance

UNMERGED = Case(scenario="s", task="infer", model="m", quantization="fp32")
BASE = replace(UNMERGED, adapter_state="base")
MERGED = replace(UNMERGED, adapter_state="merged")


def logits(offset: float) -> torch.Tensor:
    return torch.arange(1.0, 9.0).reshape(2, 4) + offset


CPU = torch.device("cpu")


def test_the_relative_distance_is_that_of_the_norms() -> None:
    theirs = torch.tensor([[3.0, 4.0]])
    found = distance([(theirs + torch.tensor([[0.3, 0.4]]), theirs)], CPU)
    assert found == pytest.approx((0.4, 0.1))
    assert distance([(theirs, torch.zeros(1, 2))], CPU) == (4.0, 5.0)


@given(st.lists(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=9), min_size=1, max_size=4), st.integers(1, 5))
def test_a_distance_is_that_of_all_pairs_in_one_piece(tensors: list[list[float]], piece: int) -> None:
    pairs = [(torch.tensor(values), torch.tensor(values[::-1]) / 3) for values in tensors]
    ours, theirs = (torch.cat(side).double() for side in zip(*pairs, strict=True))
    norm = float(theirs.norm())
    with mock.patch.object(outputs, "_PIECE", piece):
        found = distance(pairs, CPU)
    assert found.max_abs == float((ours - theirs).abs().max())
    assert found.relative == pytest.approx(float((ours - theirs).norm()) / (norm or 1.0), rel=1e-12)


def test_a_distance_is_taken_on_the_device_in_full_precision() -> None:
    ours = torch.tensor([1.0, 1.0 + 2**-7], dtype=torch.bfloat16)
    assert distance([(ours, ours.flip(0))], CPU).max_abs == 2**-7
    # Nothing is computed on meta, and so nothing can be read there.
    with pytest.raises(RuntimeError, match="meta"):
        distance([(ours, ours)], torch.device("meta"))


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
    relative = distance([(logits(1.1), logits(1))], CPU).relative
    assert MERGE_TOLERANCE["fp32"] < relative < MERGE_TOLERANCE["bf16"]
    compare_arms(arms, [logits(1), logits(1.1)])


def test_an_adapter_that_changes_nothing_is_invalid() -> None:
    with pytest.raises(InvalidCaseError, match="changes nothing"):
        compare_arms([BASE, UNMERGED], [logits(0), logits(0)])
