"""Whether alpha lets the rank change, read from loss curves of short training on real text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lorabench.analysis.claims.claim import Claim, Figure, Finding, not_tested
from lorabench.analysis.claims.curves import TRAINED_ON_TEXT, loss_curves, mean_loss, spread
from lorabench.analysis.claims.evidence import Evidence, keys, observed, setting
from lorabench.analysis.claims.words import combined
from lorabench.analysis.statistics import Estimate, mean, p_mean_below
from lorabench.record import Record

_FIXED, _UNSCALED, _STABILISED = "alpha / r", "no scaling", "alpha / sqrt(r)"
_NOTHING = 1e-9
"""A spread below which curves are one: it keeps the logarithm of none finite."""

Run = tuple[Any, ...]
"""What names one run over several ranks: seed, learning rate, model and form of weights."""


def _alpha(evidence: Evidence) -> Finding:
    families = {name: _runs(evidence, name) for name in (_FIXED, _UNSCALED, _STABILISED)}
    shared = [run for run in families[_FIXED] if run in families[_UNSCALED]]
    if len(shared) < 2:
        return not_tested(
            "training of a pretrained model on text at two ranks or more, with alpha fixed and with alpha = rank, "
            "by two seeds or more",
            evidence=keys(one for runs in families.values() for records in runs.values() for one in records),
        )
    losses = _log_ratios(families, shared, _FIXED, _UNSCALED, spread)
    norms = _log_ratios(families, shared, _FIXED, _UNSCALED, _norm_spread)
    if not losses:
        return not_tested("two ranks that were trained with alpha fixed and with alpha = rank alike")
    measures = {"losses": losses, "the update's norm": norms}
    held = [name for name, logs in measures.items() if logs and mean(logs).high < 0]
    failed = [name for name, logs in measures.items() if logs and mean(logs).low > 0]
    unclear = [name for name in measures if name not in held and name not in failed]
    p_values = [p_mean_below([sign * one for one in measures[name]], 0) for name, sign in _signed(held, failed)]
    ratio = _exponential(mean(losses))
    records = [one for runs in families.values() for run in shared for one in runs.get(run, ())]
    return Finding(
        combined(held, failed, unclear),
        f"Over ranks {_ranks(families[_FIXED][shared[0]])} at one learning rate, loss curves lie {ratio.value:.2f} "
        f"times [{ratio.low:.2f}, {ratio.high:.2f}] as far apart with alpha / r as without scaling"
        + (f", and the norms of the update {_told_ratio(norms)}" if norms else "")
        + f", by {len(shared)} seeds."
        + _told_stabilised(families, shared),
        effect=ratio.value,
        ci95=ratio.ci95,
        n=len(shared),
        condition=f"by {' and '.join(held)}; not by {' and '.join(failed)}" if held and failed else None,
        evidence=keys(records),
        rows=tuple(_alpha_rows(families, shared)),
        p_value=max(p_values, default=None),
    )


def _runs(evidence: Evidence, family: str) -> dict[Run, list[Record]]:
    """Records of one way of scaling over two ranks or more, by run."""
    series: list[list[Record]] = []
    if family == _UNSCALED:
        where = {**TRAINED_ON_TEXT, "adapter": _is_unscaled}
        series = evidence.series("adapter.rank", where, ignoring=("adapter.alpha",))
    else:
        where = {**TRAINED_ON_TEXT, "adapter.rslora": family == _STABILISED}
        series = evidence.series("adapter.rank", where)
    found: dict[Run, list[Record]] = {}
    for records in series:
        curves = [record for record in records if loss_curves([record]) is not None]
        run = tuple(setting(records[0], name) for name in ("seed", "learning_rate", "model", "quantization"))
        if len(curves) > max(1, len(found.get(run, []))):
            found[run] = curves
    return found


def _is_unscaled(adapter: Mapping[str, Any] | None) -> bool:
    return adapter is not None and adapter["alpha"] == adapter["rank"] and not adapter["rslora"]


def _norm_spread(records: Sequence[Record]) -> float | None:
    """Logarithm of the largest norm of the update by the smallest; None where one is missing or zero."""
    norms = [observed(record, "training.update_norm") for record in records]
    if not all(isinstance(norm, int | float) and norm > 0 for norm in norms):
        return None
    return math.log(max(norms) / min(norms))


def _log_ratios(
    families: Mapping[str, Mapping[Run, list[Record]]],
    runs: Sequence[Run],
    over: str,
    under: str,
    measure: Callable[[Sequence[Record]], float | None],
) -> list[float]:
    """Logarithm of how much further apart ranks lie with one scaling than with another, by run; the same ranks."""
    logs = []
    for run in runs:
        first, second = families[over].get(run, []), families[under].get(run, [])
        ranks = {setting(one, "adapter.rank") for one in first} & {setting(one, "adapter.rank") for one in second}
        if len(ranks) < 2:
            continue
        apart = [measure([one for one in some if setting(one, "adapter.rank") in ranks]) for some in (first, second)]
        first_apart, second_apart = apart
        if first_apart is not None and second_apart is not None:
            logs.append(math.log(max(first_apart, _NOTHING)) - math.log(max(second_apart, _NOTHING)))
    return logs


def _signed(held: Sequence[str], failed: Sequence[str]) -> list[tuple[str, int]]:
    return [(name, 1) for name in held] + [(name, -1) for name in failed]


def _exponential(logs: Estimate) -> Estimate:
    return Estimate(math.exp(logs.value), math.exp(logs.low), math.exp(logs.high), logs.n)


def _told_ratio(logs: Sequence[float]) -> str:
    ratio = _exponential(mean(logs))
    return f"{ratio.value:.2f} times [{ratio.low:.2f}, {ratio.high:.2f}]"


def _told_stabilised(families: Mapping[str, Mapping[Run, list[Record]]], runs: Sequence[Run]) -> str:
    logs = _log_ratios(families, runs, _STABILISED, _FIXED, spread)
    return f" With alpha / sqrt(r) they lie {_told_ratio(logs)} as far apart as with alpha / r." if logs else ""


def _ranks(records: Sequence[Record]) -> str:
    return ", ".join(str(setting(record, "adapter.rank")) for record in records)


def _alpha_rows(families: Mapping[str, Mapping[Run, list[Record]]], runs: Sequence[Run]) -> list[dict[str, Any]]:
    rows = []
    for family, found in families.items():
        by_rank: dict[int, list[Record]] = {}
        for run in runs:
            for record in found.get(run, ()):
                by_rank.setdefault(setting(record, "adapter.rank"), []).append(record)
        for rank, records in sorted(by_rank.items()):
            norms = [observed(record, "training.update_norm") for record in records]
            known = [norm for norm in norms if isinstance(norm, int | float)]
            losses = mean([mean_loss(record) for record in records])
            rows.append(
                {
                    "scaling": family,
                    "rank": rank,
                    "seeds": len(records),
                    "mean loss, nats": losses.value,
                    "update norm": mean(known).value if known else None,
                }
            )
    return rows


ALPHA_DECOUPLES_RANK = Claim(
    id="alpha-decouples-rank",
    chapter="2",
    title="alpha decouples the rank",
    hypothesis="Scaling by alpha / r lets the rank change at one learning rate: loss curves and the update's norm lie "
    "closer together over the ranks than without scaling.",
    method="A pretrained model is trained on real text at several ranks and one learning rate, with alpha / r, with "
    "alpha = r (no scaling) and with alpha / sqrt(r). Two spreads are taken for each seed: the mean over the steps of "
    "the distance between highest and lowest loss, and the logarithm of largest by smallest norm of scaling x B A. "
    "Spreads with alpha / r are divided by those without scaling, seed by seed (geometric mean, Student's interval). "
    "A run repeats one window of text, which its seed chooses.",
    refuted_by="Ranks that lie further apart with alpha / r than without scaling.",
    threshold=1.0,
    threshold_text="Below 1, interval included, for both spreads: any closer helps, and less than a whole retuning is "
    "all that the advice promises.",
    unit="spread of losses with alpha / r / without scaling",
    test=_alpha,
    figure=Figure(
        "lines",
        x="rank",
        y="mean loss, nats",
        series="scaling",
        x_label="rank",
        y_label="mean loss of the curve, nats a token",
        log_x=True,
    ),
    cause="LoraLayer.update_layer in peft/tuners/lora/layer.py scales B A by alpha / r, with rslora by alpha / "
    "sqrt(r). By reasoning: early on Adam moves each number of B by about the learning rate, whatever r is, so that "
    "the output moves by scaling x r. With alpha / r that is alpha at every rank, and curves nearly coincide; with "
    "rslora it grows as sqrt(r), and how far apart those lie is told as a multiple of next to nothing. "
    "results/cpu/learning.jsonl and results/h200/learning.jsonl bear it out: scaling x r is 64 at rank 16 with rslora "
    "and at rank 64 without scaling, and mean losses are within 4% there.",
    caveat={"cpu": "One small model and thirty steps on one batch: what a CPU can train; a GPU can go further."},
    reads="losses",
)
