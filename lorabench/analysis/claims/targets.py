"""Which layers get an adapter: exactly the named ones; and what more of them cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorabench.analysis.claims.claim import Claim, Figure, Finding, not_tested
from lorabench.analysis.claims.evidence import Evidence, Where, keys, observed, setting
from lorabench.analysis.claims.shapes import Linear, adapter_parameters, shapes_of
from lorabench.analysis.claims.timing import busy_ratio, timed_in_turn
from lorabench.analysis.claims.words import TIMED_IN_TURN, combined, mib, setup, split, targets_of, without_unknown
from lorabench.analysis.statistics import Estimate, paired_ratio
from lorabench.record import Record

_AXIS = "adapter.target_modules"
_TRAINED: Where = {"task": "train", "adapter.options": {}}
_SERVED: Where = {"task": "infer", "adapter_state": "unmerged", "adapter.options": {}}
Ratios = Mapping[tuple[str, str], tuple[Estimate, float | None]]


def _test(evidence: Evidence) -> Finding:
    injected = [record for record in evidence.where(task="lifecycle") if _wrong_modules(record) is not None]
    series = _series(evidence)
    if not series:
        missing = "training cases of a preset, alike in all but the target modules, with proof and memory"
        return not_tested(missing, evidence=keys(injected))
    trained = [record for records in series for record in records]
    steps, decodes = _ratios(evidence, _TRAINED, "step"), _ratios(evidence, _SERVED, "decode")
    rows = [_row(record, records[0], steps, decodes) for records in series for record in records]
    wrong = {targets_of(record) for record in trained if not _is_exact(record)}
    wrong |= {targets_of(record) for record in injected if _wrong_modules(record)}
    seen = list(dict.fromkeys(targets_of(record) for record in [*trained, *injected]))
    holding, failing = [name for name in seen if name not in wrong], [name for name in seen if name in wrong]
    heaviest = max(rows, key=lambda row: row["memory ratio"])
    dearest = max((row for row in rows if row["step ratio"]), key=lambda row: row["step ratio"], default=None)
    price = f"{heaviest['targets']} takes {heaviest['memory ratio']:.2f} times the memory of the fewest targets"
    if dearest is not None:
        price += (
            f"; {dearest['targets']} takes {dearest['step ratio']:.2f} times the step time "
            f"[{dearest['low']:.2f}, {dearest['high']:.2f}] on {dearest['model']}"
        )
    counted = [*trained, *injected]
    bad = [record for record in counted if not (_is_exact(record) if record in trained else not _wrong_modules(record))]
    return Finding(
        combined(holding, failing),
        f"In {len(counted) - len(bad)} of {len(counted)} cases exactly the named layers have an adapter. "
        f"On {heaviest['model']}, {price}.",
        effect=(len(counted) - len(bad)) / len(counted),
        n=len(counted),
        condition=split(holding, failing),
        evidence=keys(counted),
        missing=() if dearest is not None else (TIMED_IN_TURN,),
        rows=without_unknown(rows, "step GPU ratio"),
    )


def _series(evidence: Evidence) -> list[list[Record]]:
    """For each model and form of weights the longest series, from the fewest trained parameters on."""
    longest: dict[str, list[Record]] = {}
    for records in evidence.series(_AXIS, _TRAINED):
        usable = [record for record in records if _is_usable(record)]
        if len(usable) > max(1, len(longest.get(setup(records[0]), []))):
            longest[setup(records[0])] = sorted(usable, key=_trainable)
    return list(longest.values())


def _is_usable(record: Record) -> bool:
    return record.proof is not None and bool(_peak(record)) and _layers(record) is not None


def _layers(record: Record) -> tuple[Linear, ...] | None:
    shapes = shapes_of(record)
    return None if shapes is None else shapes.targets(setting(record, _AXIS))


def _expected_layers(record: Record) -> int:
    return sum(layer.copies for layer in _layers(record) or ())


def _is_exact(record: Record) -> bool:
    """As many layers as the names match, and as many adapter parameters as those layers make."""
    if record.proof is None or record.proof.adapter_modules != _expected_layers(record):
        return False
    counted: Any = observed(record, "training.trainable.lora")
    if not isinstance(counted, int):
        if not _trains_adapter_alone(record):
            return True
        counted = _trainable(record)
    expected = adapter_parameters(_layers(record) or (), setting(record, "adapter.rank"))
    return bool(counted == expected)


def _trains_adapter_alone(record: Record) -> bool:
    return bool(setting(record, "adapter.bias") == "none" and setting(record, "adapter.task_type") == "CAUSAL_LM")


def _wrong_modules(record: Record) -> list[str] | None:
    """Layers that a lifecycle case found replaced and should not have, or the other way round; None if not looked."""
    found = [observed(record, f"lifecycle.modules.{name}") for name in ("unexpected", "missing")]
    if not all(isinstance(names, list | tuple) for names in found):
        return None
    return [str(name) for names in found for name in names]


def _ratios(evidence: Evidence, where: Where, phase: str) -> Ratios:
    """Times of a phase against those of the fewest targets, and the GPU's own, by set-up and targets."""
    ratios: dict[tuple[str, str], tuple[Estimate, float | None]] = {}
    for timed in timed_in_turn(evidence, _AXIS, where, phase):
        ordered = sorted(timed, key=lambda one: _adapted(one.record))
        for one in ordered[1:]:
            ratio = paired_ratio(one.rounds_s, ordered[0].rounds_s)
            busy = busy_ratio(one.record, ordered[0].record, phase)
            ratios[setup(one.record), targets_of(one.record)] = ratio, busy
    return ratios


def _row(record: Record, fewest: Record, steps: Ratios, decodes: Ratios) -> dict[str, Any]:
    memory, name = record.memory, (setup(record), targets_of(record))
    (step, busy), (decode, _) = steps.get(name, (None, None)), decodes.get(name, (None, None))
    return {
        "model": name[0],
        "targets": name[1],
        "adapted layers": _adapted(record),
        "named layers": _expected_layers(record),
        "trained parameters": _trainable(record),
        "static MiB": mib(memory.static_bytes or 0) if memory else None,
        "dynamic MiB": mib(memory.dynamic_bytes or 0) if memory else None,
        "memory ratio": _peak(record) / _peak(fewest),
        "step ratio": step.value if step else None,
        "low": step.low if step else None,
        "high": step.high if step else None,
        "step GPU ratio": busy,
        "decode ratio": decode.value if decode else None,
    }


def _trainable(record: Record) -> int:
    return record.proof.trainable_parameters if record.proof else 0


def _adapted(record: Record) -> int:
    return record.proof.adapter_modules if record.proof else 0


def _peak(record: Record) -> int:
    return (record.memory.peak_allocated_bytes if record.memory else None) or 0


TARGET_MODULES = Claim(
    id="target-modules",
    chapter="2",
    title="Places to adapt are chosen",
    hypothesis="target_modules chooses the layers: exactly those whose name matches get an adapter, and no other.",
    method="The adapted layers of cases that differ in their target modules alone are counted, and compared with the "
    "layers of those names in the model's published configuration; so are their parameters, r (in + out) each. "
    "Lifecycle cases compare the names one by one. Memory, step time (in turn) and the time of an unmerged decode step "
    "say what more targets cost.",
    refuted_by="A layer that is named and has no adapter, or has one and is not named.",
    threshold=1.0,
    threshold_text="Every case exactly: a count has no tolerance. The cost is told and decides nothing.",
    unit="share of cases with exactly the named layers",
    test=_test,
    figure=Figure(
        "bars",
        x="targets",
        y="memory ratio",
        series="model",
        reference=1.0,
        x_label="target modules",
        y_label="peak memory / that of the fewest targets",
    ),
    cause="Where the base is not in fp32, each adapted layer casts its input to the adapter's dtype, which "
    "autocast_adapter_dtype makes fp32 (_cast_input_dtype in peft/tuners/tuners_utils.py), and keeps the copy for A's "
    "gradient: four bytes an element, once for every layer, for layers of one input do not share it.",
    caveat={"cpu": "Only a GPU shows how much of the extra step time is launches of small kernels."},
)
