"""Loss curves as records hold them: nats a token for each step, None where a loss was not finite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TypeGuard

from lorabench.analysis.claims.evidence import Where, observed
from lorabench.catalog import PRESETS
from lorabench.record import Record

TRAINED_ON_TEXT: Where = {"task": "train", "weights": "pretrained", "data": "text"}
"""Cases whose losses say something about learning."""


def loss_curves(records: Sequence[Record]) -> list[list[float]] | None:
    """The losses of each record over the steps that all have; None unless each has two and one finite loss at least.

    A loss that is not finite counts as twice the highest finite one of these records.
    """
    found: list[Sequence[Any]] = [observed(record, "losses") for record in records]
    if not all(isinstance(losses, list | tuple) and len(losses) > 1 for losses in found):
        return None
    finite = [[loss for loss in losses if _is_finite(loss)] for losses in found]
    if not finite or not all(finite):
        return None
    highest = 2 * max(max(losses) for losses in finite)
    steps = min(map(len, found))
    return [[loss if _is_finite(loss) else highest for loss in losses[:steps]] for losses in found]


def spread(records: Sequence[Record]) -> float | None:
    """How far curves lie apart: the distance of the highest from the lowest loss, mean over the steps, nats."""
    curves = loss_curves(records)
    if not curves:
        return None
    apart: list[float] = [max(losses) - min(losses) for losses in zip(*curves, strict=True)]
    return sum(apart) / len(apart)


def climbs(record: Record) -> float:
    """The sum of a curve's rises by its steps, nats: 0 for one that only falls. 0 without a curve."""
    [losses] = loss_curves([record]) or [[0.0, 0.0]]
    return sum(max(0.0, after - before) for before, after in pairwise(losses)) / (len(losses) - 1)


def mean_loss(record: Record) -> float:
    """Mean over the curve, nats; 0 without a curve."""
    [losses] = loss_curves([record]) or [[0.0]]
    return sum(losses) / len(losses)


def diverged(record: Record) -> bool:
    """Whether a curve ends above its beginning, is worse than a uniform guess anywhere, or held a loss not finite."""
    losses: Sequence[Any] = observed(record, "losses") or ()
    if not losses or not all(map(_is_finite, losses)):
        return bool(losses)
    preset = PRESETS.get(str(record.case.get("model")))
    guess = math.inf if preset is None else math.log(preset.config["vocab_size"])
    return bool(losses[-1] > losses[0] or max(losses) > guess)


def _is_finite(loss: object) -> TypeGuard[float]:
    return isinstance(loss, int | float) and math.isfinite(loss)
