"""Compares numbers: what base, unmerged and merged arms answer to the same prompt, and a life's weights and outputs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

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


_PIECE = 1 << 24
"""Elements compared at a time, 128 MiB in fp64: a device has room for them beside any model."""


class Distance(NamedTuple):
    """``max_abs``: the largest difference of two elements. ``relative``: ||ours - theirs|| / ||theirs||."""

    max_abs: float
    relative: float


def distance(pairs: Iterable[tuple[torch.Tensor, torch.Tensor]], device: torch.device) -> Distance:
    """How far ``ours`` are from ``theirs``, over all pairs (ours, theirs) together, in fp64 and on ``device``.

    Tensors of a pair have one shape, and may lie elsewhere, as a model's weights that were kept on the host. Where all
    of theirs are zero, ``relative`` is ||ours||.
    """
    largest, off, whole = [], [], []
    for pair in pairs:
        for pieces in zip(*(tensor.flatten().split(_PIECE) for tensor in pair), strict=True):
            ours, theirs = (piece.to(device).double() for piece in pieces)
            difference = ours - theirs
            largest.append(difference.abs().max())
            off.append(difference.square().sum())
            whole.append(theirs.square().sum())
    norm = float(torch.stack(whole).sum().sqrt())
    difference_norm = float(torch.stack(off).sum().sqrt())
    return Distance(float(torch.stack(largest).max()), difference_norm / norm if norm > 0 else difference_norm)


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
                differences[other.adapter_state] = distance([(ours, theirs)], ours.device)._asdict()
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
