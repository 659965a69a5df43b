"""What dynamic memory grows with: the batch, the size of the model, the length of the sequence."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from operator import eq
from typing import Any

from lorabench.analysis.claims.claim import Claim, Figure, Finding, not_tested
from lorabench.analysis.claims.conditions import labels
from lorabench.analysis.claims.evidence import Evidence, dynamic_bytes, keys, outliers_by_chance, setting
from lorabench.analysis.claims.words import combined, listed, mib, setup
from lorabench.analysis.statistics import line
from lorabench.catalog import PRESETS
from lorabench.record import Record

_R_SQUARED = 0.99
_RESIDUAL = 0.05
_TARGETS = "adapter.target_modules"
_ADAPTED = {"task": "train", "adapter": lambda adapter: adapter is not None}


def _total(record: Record) -> int:
    return record.proof.total_parameters if record.proof else 0


def _dynamic_test(evidence: Evidence) -> Finding:
    batches = _longest(evidence, "batch_size", at_least=3)
    families = _families(evidence)
    lengths = _longest(evidence, "sequence_length", at_least=2)
    missing = [] if batches else ["training cases that differ in the batch size alone, three or more"]
    missing += [] if families else ["training cases of two presets of one family at one batch size and length"]
    of_models = [record for series in families.values() for one in series for record in one.all_records]
    if missing:
        return not_tested(*missing, evidence=keys(_flat(batches) + of_models))
    rows: list[Mapping[str, Any]] = []
    drawn: list[str] = []
    holding: list[str] = []
    failing: list[str] = []
    sentences, fits, told = [], [], []
    for name, records in batches.items():
        fit = line([setting(one, "batch_size") for one in records], [dynamic_bytes(one) for one in records])
        is_line = fit.r_squared >= _R_SQUARED and fit.largest_residual <= _RESIDUAL and fit.slope > 0
        (holding if is_line else failing).append(f"the batch size ({name})")
        fits.append(fit.r_squared)
        sentences.append(
            f"On {name}, dynamic memory grows by {mib(fit.slope):.4g} MiB with each sequence of the batch beside a "
            f"fixed {mib(fit.intercept):.3g} MiB (R2 {fit.r_squared:.5f}, at most {100 * fit.largest_residual:.2g}% "
            "off the line)."
        )
        drawn.append(f"batch size, {name}")
        rows += _growth(drawn[-1], [setting(one, "batch_size") for one in records], records)
    for where, series in families.items():
        grown = [one for one in series if _grows(one.records)]
        (holding if len(grown) == len(series) else failing).append(f"model size {where}")
        shown = max(series, key=lambda one: (not _grows(one.records), len(one.records), -_least_growth(one.records)))
        told.append(
            f"in {len(grown)} of {len(series)} series {where} ({_told_pairs(series)}; {_told_growth(shown.records)})"
        )
        drawn.append(shown.name)
        for one in (shown, *(other for other in series if other is not shown)):
            sizes = [_total(record) for record in one.records]
            rows += _growth(one.name, sizes, one.records, alike=1 + len(one.copies))
    sentences.append(f"Over models of a family it grows at every size {listed(told)}.")
    if lengths:
        orders = [f"length^{_order(records):.2f} ({name})" for name, records in lengths.items()]
        sentences.append(f"Between the two longest sequences it grows as {listed(orders)}.")
    for name, records in lengths.items():
        rows += _growth(f"length, {name}", [setting(one, "sequence_length") for one in records], records)
    records = _flat(batches) + of_models + _flat(lengths)
    return Finding(
        combined(holding, failing),
        " ".join(sentences),
        effect=min(fits),
        n=len(keys(records)),
        condition=f"with {listed(holding)}; not with {listed(failing)}" if holding and failing else None,
        evidence=keys(records),
        rows=tuple(rows),
        drawn=tuple(drawn),
    )


def _flat(found: Mapping[str, Sequence[Record]]) -> list[Record]:
    return [record for records in found.values() for record in records]


def _longest(evidence: Evidence, axis: str, *, at_least: int) -> dict[str, list[Record]]:
    """For each set-up the longest series over ``axis`` with memory."""
    found: dict[str, list[Record]] = {}
    for records in evidence.series(axis, _ADAPTED):
        alike = _complete(records)
        name = _series_name(alike[0], axis) if alike else ""
        if len(alike) >= max(at_least, len(found.get(name, [])) + 1):
            found[name] = alike
    return found


def _complete(records: Sequence[Record]) -> list[Record]:
    return [record for record in records if dynamic_bytes(record) and _total(record) and not outliers_by_chance(record)]


@dataclass(frozen=True)
class _Models:
    """One model of a family after the other, by size, alike in all else; ``copies`` take the very same bytes."""

    name: str
    records: Sequence[Record]
    copies: Sequence[Sequence[Record]] = ()

    @property
    def all_records(self) -> list[Record]:
        return [record for records in (self.records, *self.copies) for record in records]


def _families(evidence: Evidence) -> dict[str, list[_Models]]:
    """The series over models of one family with and without checkpointing; those of the same bytes are one.

    Apart, because it leaves little of the layers, and more of the logits.
    """
    found = _models(evidence)
    firsts = [records[0] for series in found.values() for records in series]
    names = iter(labels(firsts, "model", "architecture", "gradient_checkpointing", every=True))
    families: dict[str, list[_Models]] = {}
    for where, series in found.items():
        alike: dict[tuple[tuple[str, int], ...], list[_Models]] = {}
        for records, name in zip(series, names, strict=False):
            taken = tuple((str(setting(record, "model")), dynamic_bytes(record)) for record in records)
            alike.setdefault(taken, []).append(_Models(_models_name(records[0], name), records))
        families[where] = [_one_of(several) for several in alike.values()]
    return families


def _one_of(alike: Sequence[_Models]) -> _Models:
    """The one with the fewest settings to name, and the others as its copies."""
    plainest = min(alike, key=lambda one: len(one.name.split()))
    return replace(plainest, copies=tuple(one.records for one in alike if one is not plainest))


def _models_name(record: Record, settings: str) -> str:
    mode = setting(record, "gradient_checkpointing")
    return f"models, {_family(record)} {settings}{'' if mode == 'none' else f', {mode}'}"


def _models(evidence: Evidence) -> dict[str, list[list[Record]]]:
    """All series over models of one family, by size, that are alike in all else.

    One set of target modules at a time: they may follow the model, and are not compared here.
    """
    targets = {json.dumps(setting(record, _TARGETS)): setting(record, _TARGETS) for record in evidence.where(_ADAPTED)}
    found: dict[str, list[list[Record]]] = {}
    for mode, where in _CHECKPOINTING.items():
        for wanted in targets.values():
            alike = {**_ADAPTED, "gradient_checkpointing": mode, _TARGETS: partial(eq, wanted)}
            for records in map(_complete, evidence.series("model", alike)):
                for family in sorted({_family(record) for record in records} - {None}, key=str):
                    sizes = sorted((record for record in records if _family(record) == family), key=_total)
                    if len(sizes) > 1:
                        found.setdefault(where, []).append(sizes)
    return found


_CHECKPOINTING = {"none": "without checkpointing"} | {
    mode: f"with {mode} checkpointing" for mode in ("reentrant", "non-reentrant")
}


def _grows(records: Sequence[Record]) -> bool:
    return _least_growth(records) > 1


def _least_growth(records: Sequence[Record]) -> float:
    """Of each step to the next larger model, the least: dynamic bytes after by those before."""
    return min(dynamic_bytes(after) / dynamic_bytes(before) for before, after in pairwise(records))


def _told_growth(records: Sequence[Record]) -> str:
    """From the smallest to the largest model; where one step does not grow, that step."""
    ends = records[0], records[-1]
    if not _grows(records):
        ends = min(pairwise(records), key=lambda pair: dynamic_bytes(pair[1]) / dynamic_bytes(pair[0]))
    small, large = ends
    times = dynamic_bytes(large) / dynamic_bytes(small)
    return (
        f"{setting(large, 'model')} takes {times:.3g} times what {setting(small, 'model')} does, of "
        f"{_total(large) / _total(small):.3g} times the parameters"
    )


def _told_pairs(series: Sequence[_Models]) -> str:
    """How many models are compared: that other settings differ between series makes them no more."""
    steps = [pair for one in series for pair in pairwise(one.records)]
    pairs = Counter((setting(before, "model"), setting(after, "model")) for before, after in steps)
    if len(pairs) == 1:
        return "one pair of models"
    families = list(dict.fromkeys(str(_family(one.records[0])) for one in series))
    [((before, after), most)] = pairs.most_common(1)
    return (
        f"{len(pairs)} pairs of neighbours in the {'family' if len(families) == 1 else 'families'} {listed(families)}, "
        f"{before} and {after} in {most} of the series"
    )


def _family(record: Record) -> str | None:
    preset = PRESETS.get(str(record.case.get("model")))
    return None if preset is None else preset.model_type


def _series_name(record: Record, axis: str) -> str:
    return f"{setup(record)}, {setting(record, 'attention')} attention" if axis == "sequence_length" else setup(record)


def _order(records: Sequence[Record]) -> float:
    """The power of the length that dynamic memory grows with between the two longest."""
    before, last = records[-2:]
    lengths = setting(last, "sequence_length") / setting(before, "sequence_length")
    return math.log(dynamic_bytes(last) / dynamic_bytes(before)) / math.log(lengths)


def _growth(
    name: str, sizes: Sequence[float], records: Sequence[Record], *, alike: int | None = None
) -> list[dict[str, Any]]:
    return [
        {
            "series": name,
            "model": setting(record, "model"),
            "batch x length": f"{setting(record, 'batch_size')} x {setting(record, 'sequence_length')}",
            "times the smallest": size / sizes[0],
            "dynamic MiB": mib(dynamic_bytes(record)),
            "times its dynamic": dynamic_bytes(record) / dynamic_bytes(records[0]),
            "series alike": alike,
        }
        for size, record in zip(sizes, records, strict=True)
    ]


DYNAMIC_FOLLOWS_BATCH = Claim(
    id="dynamic-follows-batch",
    chapter="3.2",
    title="Batch and size set dynamic memory",
    hypothesis="Dynamic memory grows in a straight line with the batch size, and with the size of the model at an "
    "equal batch.",
    method="A line is fitted to dynamic bytes by batch size: its slope is the price of one more sequence, its "
    "intercept what is paid once. At one batch size and length, dynamic bytes of models of one family are put "
    "in the order of their parameters, with checkpointing and without: a series for each set of other settings, those "
    "that take the very same bytes counted once. int8 on random weights decides at outlier threshold 0 alone. The "
    "growth with the sequence's length is told too, for each kind of attention.",
    refuted_by="Bytes by batch size that are no line, or a larger model of the family that needs less.",
    threshold=_R_SQUARED,
    threshold_text="R2 at least 0.99 and no point over 5% off the line: libraries' workspaces and the allocator's "
    "blocks make steps of a few MiB. Growth with the model at every step.",
    unit="R2 of the line by batch size",
    test=_dynamic_test,
    figure=Figure(
        "lines",
        x="times the smallest",
        y="times its dynamic",
        series="series",
        x_label="batch size or parameters / the smallest",
        y_label="dynamic memory / that of the smallest",
        log_x=True,
    ),
    cause="Logits are vocabulary x tokens, and ForCausalLMLoss in transformers/loss/loss_utils.py widens them to "
    "fp32; log-softmax and the gradients make more of their size. Gradient checkpointing leaves little of the layers, "
    "and logits decide: a larger model with a vocabulary of 32,000 takes less there than a small one with 128,256, and "
    "in reentrant mode bf16, int8 and nf4 take the same bytes. "
    "What lies off the line by batch size is the allocator's slack: it hands out a larger block whole where 1 MiB or "
    "less would be left (should_split in c10/cuda/CUDACachingAllocator.cpp). Without it both lines of the H200's "
    "records are exact to the byte.",
)
