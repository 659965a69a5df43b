"""Whether a key-value cache gets in the way of gradient checkpointing, and what it costs a step without."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

from lorabench.analysis.claims.claim import Claim, Figure, Finding, not_tested
from lorabench.analysis.claims.evidence import Evidence, dynamic_bytes, keys, observed, setting
from lorabench.analysis.claims.words import combined, mib, setup, told
from lorabench.record import Record

_MODES = ("reentrant", "non-reentrant")
_WENT_WRONG = ("failed", "invalid")
_TIMES = 2.0
"""How many times farther apart losses may be than those of runs that compute the same."""


def _test(evidence: Evidence) -> Finding:
    # Of one process where there are such, for losses of two differ more; each case once.
    apart, together = (
        {
            _case(on): (off, on)
            for off, on in evidence.pairs("use_cache", False, True, {"task": "train"}, in_turn=in_turn)
        }
        for in_turn in (False, True)
    )
    pairs = list((apart | together).values())
    under = [pair for pair in pairs if setting(pair[1], "gradient_checkpointing") in _MODES]
    under = [pair for pair in under if isinstance(observed(pair[1], "training.cache.returned"), bool)]
    broken = [
        record
        for record in evidence.others
        if record.case.get("task") == "train"
        and record.case.get("use_cache")
        and record.case.get("gradient_checkpointing") in _MODES
        and record.status in _WENT_WRONG
    ]
    if not under and not broken:
        return not_tested("training cases with checkpointing, with and without use_cache, alike in all else")
    rows = [_row(off, on, _scatter(evidence, off)) for off, on in under]
    rows += [_broken_row(record) for record in broken]
    plain = [pair for pair in pairs if setting(pair[1], "gradient_checkpointing") == "none" and dynamic_bytes(pair[0])]
    wrong = [str(row["case"]) for row in rows if row["goes wrong"]]
    right = [str(row["case"]) for row in rows if not row["goes wrong"]]
    ratios = [row["dynamic ratio"] for row in rows if row["dynamic ratio"] is not None]
    records = [record for pair in [*under, *plain] for record in pair]
    return Finding(
        combined(wrong, right),
        _told_what_happens(under, wrong) + "".join(_told_cost(*pair) for pair in plain[:1]),
        effect=max(ratios, default=None),
        n=len(rows),
        condition=f"with {', '.join(wrong)}; not with {', '.join(right)}" if wrong and right else None,
        evidence=keys([*records, *broken]),
        rows=(*rows, *(_row(off, on, _scatter(evidence, off)) for off, on in plain)),
    )


def _case(record: Record) -> tuple[str, int]:
    return record.key, record.seed


def _scatter(evidence: Evidence, off: Record) -> float:
    """By how much losses differ among the checkpointing modes without a cache, which compute the same.

    0 on a CPU. On a GPU kernels that add up in any order (fused attention's backward) train a little differently in
    each process.
    """
    for alike in evidence.series("gradient_checkpointing", {"task": "train", "use_cache": False}):
        if any(_case(record) == _case(off) for record in alike):
            runs = [off if _case(record) == _case(off) else record for record in alike]
            return max((_apart(one, other) or 0.0 for one, other in combinations(runs, 2)), default=0.0)
    return 0.0


def _apart(one: Record, other: Record) -> float | None:
    """The largest difference of their losses over the steps that both tell; None where one of these is not finite."""
    ours, theirs = _losses(one), _losses(other)
    pairs = [(ours[step], theirs[step]) for step in ours.keys() & theirs.keys()]
    if not pairs or not all(isinstance(loss, int | float) and math.isfinite(loss) for pair in pairs for loss in pair):
        return None
    apart: float = max(abs(mine - yours) for mine, yours in pairs)
    return apart


def _losses(record: Record) -> dict[int, Any]:
    """By the number of steps that the model had been trained: which are told depends on how the case was timed."""
    losses, first = observed(record, "losses"), observed(record, "losses_from_step")
    if not isinstance(losses, list | tuple):
        return {}
    return dict(enumerate(losses, start=first if isinstance(first, int) else 0))


def _row(off: Record, on: Record, scatter: float) -> dict[str, Any]:
    """A pair without and with use_cache. It goes wrong where checkpointing meets a cache, or the cache changes it."""
    returned = observed(on, "training.cache.returned")
    apart = _apart(off, on)
    same_losses = observed(off, "losses") == observed(on, "losses") if apart is None else apart <= _TIMES * scatter
    mode = setting(on, "gradient_checkpointing")
    return {
        "case": f"{setup(on)} {mode}",
        "checkpointing": mode,
        "cache returned": returned,
        "warned": bool(_warnings(on)),
        "losses alike": same_losses,
        "losses apart": apart,
        "apart without cache": scatter,
        "dynamic MiB without cache": mib(dynamic_bytes(off)),
        "dynamic MiB with cache": mib(dynamic_bytes(on)),
        "dynamic ratio": dynamic_bytes(on) / dynamic_bytes(off) if dynamic_bytes(off) else None,
        "goes wrong": mode in _MODES and (bool(returned) or not same_losses or dynamic_bytes(on) > dynamic_bytes(off)),
    }


def _broken_row(record: Record) -> dict[str, Any]:
    mode = setting(record, "gradient_checkpointing")
    return {
        "case": f"{setup(record)} {mode}",
        "checkpointing": mode,
        "cache returned": None,
        "warned": None,
        "losses alike": None,
        "losses apart": None,
        "apart without cache": None,
        "dynamic MiB without cache": None,
        "dynamic MiB with cache": None,
        "dynamic ratio": None,
        "goes wrong": True,
    }


def _warnings(record: Record) -> list[str]:
    found = observed(record, "training.cache.warnings")
    return [str(line) for line in found] if isinstance(found, list | tuple) else []


def _told_what_happens(under: list[tuple[Record, Record]], wrong: list[str]) -> str:
    lines = [line for _, on in under for line in _warnings(on)]
    said = f', and warn: "{lines[0]}"' if lines else ""
    if not wrong:
        scattered = " (losses as far as they repeat)" if any(_apart(off, on) for off, on in under) else ""
        return (
            f"With use_cache on, the libraries switch the cache off themselves under checkpointing{said}; losses and "
            f"dynamic bytes are those without it{scattered}, in {len(under)} cases."
        )
    return f"With use_cache on, {len(wrong)} cases with checkpointing fail, keep a cache, or train differently{said}."


def _told_cost(off: Record, on: Record) -> str:
    before = dynamic_bytes(off)
    added = dynamic_bytes(on) - before
    why = ": keys and values are kept for the backward pass anyway" if added <= 0 else ""
    return f" Without checkpointing the cache adds {told(added)} to the {told(before)} of a step on {setup(on)}{why}."


CACHE_CONFLICTS_WITH_CHECKPOINTING = Claim(
    id="cache-conflicts-with-checkpointing",
    chapter="3.4",
    title="Cache conflicts with checkpointing",
    hypothesis="With gradient checkpointing the user must switch use_cache off, or a step fails, keeps a cache, or "
    "trains differently.",
    method="Training cases with use_cache on and off, alike in all else, with either mode of checkpointing and "
    "without. Looked at are whether the step runs, whether its output holds a cache, what transformers warns of, "
    "whether losses are no farther apart than those of the checkpointing modes without a cache, and dynamic bytes.",
    refuted_by="Libraries that switch the cache off themselves, with the same losses and no more bytes.",
    threshold=1.0,
    threshold_text="Not one byte more, and losses at most twice as far apart as among runs that compute the same: "
    "equal to the bit on a CPU, where those are.",
    unit="dynamic bytes with / without use_cache, under checkpointing",
    test=_test,
    figure=Figure(
        "bars",
        x="case",
        y="dynamic ratio",
        reference=1.0,
        x_label="",
        y_label="dynamic memory with use_cache / without",
    ),
    then="model.config.use_cache = False",
    now="model.config.use_cache = False  # still silences the warning, and drops the cache without checkpointing",
    cause="merge_with_config_defaults in transformers/utils/generic.py, around the model's forward, sets use_cache to "
    "False with this warning while the model trains with checkpointing: no cache is made. GradientCheckpointingLayer "
    "in transformers/modeling_layers.py would drop one that still reached a layer.",
    reads="losses or outputs",
)
