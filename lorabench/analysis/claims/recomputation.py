"""Gradient checkpointing: what it computes twice, and how long that takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorabench.analysis.claims.checkpointing import AXIS, MODES, TODAYS_CALL
from lorabench.analysis.claims.claim import Claim, Figure, Finding, not_tested
from lorabench.analysis.claims.evidence import Evidence, keys, observed, setting
from lorabench.analysis.claims.timing import busy_ratio, timed_in_turn
from lorabench.analysis.claims.words import TIMED_IN_TURN, combined, listed, setup, without_unknown
from lorabench.analysis.statistics import Estimate, paired_ratio
from lorabench.record import Record


@dataclass(frozen=True)
class _Timed:
    """A step with checkpointing: its time, and its operations, by those of the step without."""

    record: Record
    ratio: Estimate
    operations: float | None


def _runs_twice(evidence: Evidence) -> Finding:
    where = {"task": "train", "use_cache": False}
    series = [
        records
        for records in evidence.series(AXIS, where)
        if setting(_first_plain(records), AXIS) == "none" and any(_calls(record) for record in records)
    ]
    counted = [record for records in series for record in records if _calls(record) is not None]
    with_it = [record for record in counted if setting(record, AXIS) in MODES]
    if not with_it or len(with_it) == len(counted):
        return not_tested(
            "training cases with and without gradient checkpointing, alike in all else, with layer calls counted",
            evidence=keys(counted),
        )
    ratios, timed = _step_ratios(evidence), []
    operations = {key: ratio for records in series for key, ratio in _operation_ratios(records).items()}
    busy = {one.key: busy_ratio(one, _first_plain(records)) for records in series for one in records}
    holding: list[str] = []
    failing: list[str] = []
    rows = []
    for record in counted:
        expected = 1 if setting(record, AXIS) == "none" else 2
        (holding if _calls(record) == expected else failing).append(_named(record))
        if expected == 2:
            ratio = ratios.get(record.key)
            timed += [_Timed(record, ratio, operations.get(record.key))] if ratio is not None else []
            rows.append(_call_row(record, ratio, busy.get(record.key), operations.get(record.key)))
    failing = list(dict.fromkeys(failing))
    holding = [name for name in dict.fromkeys(holding) if name not in failing]
    calls = [_calls(record) or 0 for record in with_it]
    return Finding(
        combined(holding, failing),
        f"A layer runs forward {_range(calls)} times a step with checkpointing, in {len(with_it)} cases."
        + "".join(_told_times(timed, frozen) for frozen in (True, False)),
        effect=max(calls, key=lambda one: abs(one - 2)),
        n=len(counted),
        condition=f"for {listed(holding)}; not for {listed(failing)}" if holding and failing else None,
        evidence=keys(counted),
        missing=() if timed else (TIMED_IN_TURN,),
        rows=without_unknown(rows, "GPU ratio", "launch-bound share"),
    )


def _first_plain(records: Sequence[Record]) -> Record:
    return next((record for record in records if setting(record, AXIS) == "none"), records[0])


def _calls(record: Record) -> float | None:
    return record.proof.layer_forward_calls_per_step if record.proof else None


def _named(record: Record) -> str:
    is_int8 = setting(record, "quantization") == "int8"
    threshold = f" at threshold {setting(record, 'int8_threshold'):g}" if is_int8 else ""
    return f"{setup(record)}{threshold} {setting(record, AXIS)}"


def _range(calls: Sequence[float]) -> str:
    return f"{min(calls):g}" if min(calls) == max(calls) else f"{min(calls):g} to {max(calls):g}"


def _step_ratios(evidence: Evidence) -> dict[str, Estimate]:
    """Step time with checkpointing by that without, by key."""
    found = {}
    for timed in timed_in_turn(evidence, AXIS, {"task": "train", "use_cache": False}):
        plain = [one for one in timed if setting(one.record, AXIS) == "none"]
        for one in timed:
            if plain and one is not plain[0]:
                found[one.record.key] = paired_ratio(one.rounds_s, plain[0].rounds_s)
    return found


def _operation_ratios(alike: Sequence[Record]) -> dict[str, float]:
    """Operations of a step with checkpointing by those without, as they were counted, by key."""
    plain = _operations(_first_plain(alike))
    counted = {record.key: _operations(record) for record in alike if setting(record, AXIS) in MODES}
    return {key: operations / plain for key, operations in counted.items() if operations and plain}


def _operations(record: Record) -> float | None:
    by_dtype = observed(record, "work.step.flops")
    counts = list(by_dtype.values()) if isinstance(by_dtype, Mapping) else []
    return sum(counts) if all(isinstance(count, int | float) for count in counts) else None


def _call_row(record: Record, ratio: Estimate | None, busy: float | None, operations: float | None) -> dict[str, Any]:
    share = observed(record, "launch_bound.step.launch_bound_share")
    return {
        "case": f"{_named(record)}, {setting(record, 'batch_size')} x {setting(record, 'sequence_length')}",
        "trained": "adapter" if record.case.get("adapter") else "all weights",
        "calls a layer": _calls(record),
        "step ratio": None if ratio is None else ratio.value,
        "low": None if ratio is None else ratio.low,
        "high": None if ratio is None else ratio.high,
        "GPU ratio": busy,
        "operations ratio": operations,
        "launch-bound share": share if isinstance(share, float) else None,
    }


def _told_times(timed: Sequence[_Timed], frozen: bool) -> str:
    mine = [one for one in timed if bool(one.record.case.get("adapter")) == frozen]
    if not mine:
        return ""
    ratios = sorted((one.ratio for one in mine), key=lambda one: one.value)
    ends = [f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]" for one in (ratios[0], ratios[-1])]
    what = "with a frozen base" if frozen else "training all weights"
    counted = sorted(one.operations for one in mine if one.operations is not None)
    of_operations = f", with {_span(counted)} times the operations" if counted else ""
    return f" A step takes {' to '.join(dict.fromkeys(ends))} times as long {what}{of_operations}."


def _span(counted: Sequence[float]) -> str:
    return " to ".join(dict.fromkeys(f"{one:.2f}" for one in (counted[0], counted[-1])))


CHECKPOINTING_RUNS_FORWARD_TWICE = Claim(
    id="checkpointing-runs-forward-twice",
    chapter="3.3.2",
    title="Checkpointing runs forward twice",
    hypothesis="With gradient checkpointing each layer runs forward twice in a step, and once without.",
    method="A hook before each layer's first submodule counts its calls in one step. What it costs is read from step "
    "times taken in turn, beside the operations that were counted. Forward costs as much as backward through a frozen "
    "base: layers run again whole are 1.5 times the operations, and 1.33 times where all weights train.",
    refuted_by="A layer that runs forward any other number of times.",
    threshold=2.0,
    threshold_text="Exactly two calls with it and one without: a count has no tolerance. The time is told and decides "
    "nothing, because it depends on how much of a step is computing.",
    unit="forward calls of a layer in a step",
    test=_runs_twice,
    figure=Figure(
        "points",
        x="case",
        y="step ratio",
        series="trained",
        low="low",
        high="high",
        reference=1.0,
        x_label="",
        y_label="step time / that without checkpointing",
    ),
    then="model.gradient_checkpointing_enable()",
    now=TODAYS_CALL,
    cause="CheckpointFunction.backward in torch/utils/checkpoint.py runs a layer again whole. Non-reentrant "
    "checkpointing stops (_StopRecomputationError) once it has the last tensor that backward needs, before the "
    "layer's last product: down_proj does not run again. The output head is in no layer. So operations grow less "
    "than half, and time grows with them where the GPU is busy; where it waits for launches, with the launches. "
    "Non-reentrant mode leaves the GPU less and the host more to do: _checkpoint_hook in "
    "torch/utils/checkpoint.py handles each tensor that is saved and each that is asked for in Python (read, not "
    "profiled). With a slow host a step can so take longer than in the other mode, though the GPU works less.",
    caveat={
        "cpu": "On a CPU, too, time grows by more than operations; how long a GPU waits for launches, only a GPU shows."
    },
    reads="counts of layers' calls",
)
