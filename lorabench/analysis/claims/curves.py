"""Loss curves as records hold them: nats a token for each step, None where a loss was not finite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from lorabench.analysis.claims.evidence import observed
from lorabench.record import Record


def loss_curves(records: Sequence[Record]) -> list[list[float]] | None:
    """The losses of each record over the steps that all have; None unless each has two and one finite loss at least.

    A loss that is not finite counts as twice the highest finite one of these records.
    """
    found = [observed(record, "losses") for record in records]
    if not all(isinstance(losses, list | tuple) and len(losses) > 1 for losses in found):
        return None
    finite = [[loss for loss in losses if _is_finite(loss)] for losses in found]
    if not all(finite):
        return None
    highest = 2 * max(max(losses) for losses in finite)
    steps = min(map(len, found))
    return [[loss if _is_finite(loss) else highest for loss in losses[:steps]] for losses in found]


def spread(records: Sequence[Record]) -> float | None:
    """How far curves lie apart: the distance of the highest from the lowest loss, mean over the steps, nats."""
    curves = loss_curves(records)
    if curves is None:
        return None
    apart = [max(losses) - min(losses) for losses in zip(*curves, strict=True)]
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
    """Whether a curve ends above its beginning, or held a loss that was not finite."""
    losses = observed(record, "losses") or ()
    return bool(losses) and (not all(map(_is_finite, losses)) or losses[-1] > losses[0])


def _is_finite(loss: object) -> bool:
    return isinstance(loss, int | float) and math.isfinite(loss)
