"""How far the gate's memory lane can be believed: writes the tables in results/gate/.

``python tests/gate_trials.py identical identical.csv ROUND ROUND...`` gates each case of each results file against the
first: where the files are of one code, every alarm is a false one. Each ``make gate`` leaves a round in
``results/gate.jsonl``.

``python tests/gate_trials.py changed changed.csv`` changes the code under a case, one change at a time, and predicts
it: every silence is a miss.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lorabench.analysis.gate import Baseline, Decision, Policy, decide, make_baseline
from lorabench.case import Adapter, Case
from lorabench.environment import PREDICTED_CARD, Environment
from lorabench.record import Record
from lorabench.results import Results, read_results

QUANTIZED = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj")
SETTINGS: Sequence[Mapping[str, str]] = [
    {"quantization": quantization, "gradient_checkpointing": checkpointing}
    for quantization in ("bf16", "int8", "nf4")
    for checkpointing in ("none", "reentrant", "non-reentrant")
]


def judged(baseline: Baseline, record: Record, environment: Environment) -> Decision:
    """What the gate says of one case, with the strictest rules."""
    mine = [one for one in baseline.records if one.identity == record.identity]
    alone = Baseline(tuple(mine), baseline.environments)
    return decide(alone, [record], {environment.id: environment}, Policy(strict=True))


def baseline_of(records: Sequence[Record], environment: Environment) -> Baseline:
    return make_baseline(Results({environment.id: environment}), records, None, keep=False)


def identical(rounds: Sequence[Path]) -> Iterator[dict[str, object]]:
    """A row for each case: in how many rounds it was gated, and how many of them raised an alarm."""
    first, *others = map(read_results, rounds)
    baseline = make_baseline(first, first.latest(), None, keep=False)
    for record in baseline.records:
        decisions = [
            judged(baseline, again, run.environments[again.environment])
            for run in others
            for again in run.latest()
            if again.identity == record.identity
        ]
        yield {
            "case": record.name,
            "decisions": len(decisions),
            "numbers": sum(decision.compared for decision in decisions),
            "alarms": sum(decision.verdict != "passed" for decision in decisions),
        }


def changed() -> Iterator[dict[str, object]]:
    """A row for each kind of change and each setting: how often it was tried, how often the gate caught it."""
    from gating import BYTES, Change, predicted, without_checkpointing, without_quantization

    environment = Environment(PREDICTED_CARD, None, {}, {}, {}, "", None, "", "trials")
    for settings in SETTINGS:
        case = _case(**settings)
        whole = predicted(case, environment)
        changes: dict[str, list[Change]] = {f"one byte more: {name}": [change] for name, change in BYTES.items()}
        if case.gradient_checkpointing != "none":
            changes["one layer checkpointed less"] = [without_checkpointing(layer) for layer in range(4)]
        if case.quantization != "bf16":
            names = [f"layers.{layer}.{module}" for layer, module in enumerate(QUANTIZED[:4])]
            changes["one module unquantized"] = [without_quantization(name) for name in names]
        for name, members in changes.items():
            others = [predicted(case, environment, change) for change in members]
            yield _row(name, settings, [(whole, other) for other in others], environment)
            if "checkpointed" in name:
                row = "one layer checkpointed more"
                yield _row(row, settings, [(other, whole) for other in others], environment)
        yield _row("one byte more within a block", settings, list(_within_blocks(whole)), environment)


def _within_blocks(record: Record) -> Iterator[tuple[Record, Record]]:
    """A byte more in each category in turn, where the allocator's rounding swallows it: the peak stays as it is."""
    from dataclasses import replace

    assert record.memory is not None
    for name in record.memory.categories:
        if name != "allocator_slack":
            moved = dict(record.memory.categories)
            moved[name] += 1
            moved["allocator_slack"] -= 1
            yield record, replace(record, memory=replace(record.memory, categories=moved))


def _row(
    change: str, settings: Mapping[str, str], trials: Sequence[tuple[Record, Record]], environment: Environment
) -> dict[str, object]:
    decisions = [judged(baseline_of([base], environment), head, environment) for base, head in trials]
    moved = [max(abs(n.difference or 0) for n in one.outcomes[0].numbers) for one in decisions]
    return {
        "change": change,
        **settings,
        "trials": len(decisions),
        "caught": sum(decision.verdict == "failed" for decision in decisions),
        "smallest_difference_bytes": min(moved),
    }


def _case(**settings: str) -> Case:
    return Case(
        scenario="changed",
        task="train",
        model="llama-tiny",
        sequence_length=64,
        int8_threshold=0.0,
        adapter=Adapter(rank=4),
        **settings,  # type: ignore[arg-type]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("identical", "changed"))
    parser.add_argument("out", type=Path)
    parser.add_argument("rounds", type=Path, nargs="*")
    options = parser.parse_args()
    rows = list(identical(options.rounds) if options.what == "identical" else changed())
    with options.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
