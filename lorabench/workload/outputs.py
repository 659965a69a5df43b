"""Compares what base, unmerged and merged arms answer to the same prompt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from lorabench.case import Case
from lorabench.errors import InvalidCaseError

MERGE_TOLERANCE: Mapping[str, float] = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 1e-1, "int8": 1.0, "nf4": 1.0}
"""Relative L2 difference of the logits up to which merged and unmerged count as the same model.

Merging rounds W + BA to the weights' type: once per weight, so the outputs differ by a small multiple of the type's
epsilon (fp32 1.2e-7, fp16 9.8e-4, bf16 7.8e-3). int8 and nf4 are quantized anew after merging: an update smaller than
a quantization step is rounded away (0.69 seen for nf4 on an H100, Llama-3.2-1B, random weights, all-linear). What that
loses is a finding, not a fault, so only nonsense is refused there: unrelated outputs of one norm differ by sqrt(2).
"""


def relative_difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """||ours - theirs|| / ||theirs|| over all elements, in fp64."""
    ours, theirs = ours.double(), theirs.double()
    norm = theirs.norm()
    return float((ours - theirs).norm() / norm) if norm > 0 else float((ours - theirs).norm())


def compare_arms(cases: Sequence[Case], logits: Sequence[torch.Tensor]) -> list[dict[str, Any]]:
    """For each arm, how far its logits are from those of the arms that differ from it in ``adapter_state`` alone.

    Returns a mapping an arm: ``{"output_difference": {state: {"relative": ..., "max_abs": ...}}}``.

    Raises:
        InvalidCaseError: merged and unmerged disagree beyond :data:`MERGE_TOLERANCE`, or an adapter changes nothing.
    """
    observations: list[dict[str, Any]] = []
    for case, ours in zip(cases, logits, strict=True):
        differences: dict[str, dict[str, float]] = {}
        for other, theirs in zip(cases, logits, strict=True):
            if other.adapter_state != case.adapter_state and _same_but_state(case, other):
                differences[other.adapter_state] = {
                    "relative": relative_difference(ours, theirs),
                    "max_abs": float((ours - theirs).abs().max()),
                }
        _refuse_disagreement(case, differences)
        observations.append({"output_difference": differences} if differences else {})
    return observations


def _same_but_state(case: Case, other: Case) -> bool:
    if "base" in (case.adapter_state, other.adapter_state):
        case, other = replace(case, adapter_state="base"), replace(other, adapter_state="base")
    else:
        other = replace(other, adapter_state=case.adapter_state)
    return case.key == other.key


def _refuse_disagreement(case: Case, differences: Mapping[str, Mapping[str, float]]) -> None:
    for state, difference in differences.items():
        if not math.isfinite(difference["relative"]):
            raise InvalidCaseError(f"{case.adapter_state} or {state} outputs are not finite and cannot be compared")
    if case.adapter_state == "merged" and "unmerged" in differences:
        relative, tolerance = differences["unmerged"]["relative"], MERGE_TOLERANCE[case.quantization]
        if relative > tolerance:
            raise InvalidCaseError(
                f"merged and unmerged outputs differ by {relative:.3g} relative to their norm; "
                f"{case.quantization} allows {tolerance:g}"
            )
    if case.adapter_state == "unmerged" and differences.get("base", {}).get("max_abs") == 0.0:
        raise InvalidCaseError(
            "the adapter changes nothing: unmerged and base outputs are equal; lora_B must not be zero"
        )
