"""Advice on learning, read from loss curves of short training on real text, several seeds each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lorabench.analysis.claims.claim import Claim, Figure, Finding
from lorabench.analysis.claims.curves import climbs, diverged, loss_curves, mean_loss, spread
from lorabench.analysis.claims.evidence import Evidence, Where, keys, observed, setting
from lorabench.analysis.claims.judging import not_tested
from lorabench.analysis.claims.shapes import shapes_of
from lorabench.analysis.claims.words import combined, told
from lorabench.analysis.statistics import Estimate, mean, p_mean_below, p_mean_within
from lorabench.record import Record

_TEXT: Where = {"task": "train", "weights": "pretrained", "data": "text"}
_FIXED, _UNSCALED, _STABILISED = "alpha / r", "no scaling", "alpha / sqrt(r)"
_MARGIN = 0.01
"""Nats a step: thirty steps of it come to 0.3 nats, which a plotted curve would hardly show."""

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
        where = {**_TEXT, "adapter": _is_unscaled}
        series = evidence.series("adapter.rank", where, ignoring=("adapter.alpha",))
    else:
        where = {**_TEXT, "adapter.rslora": family == _STABILISED}
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
        if all(apart):
            logs.append(math.log(apart[0] or 1) - math.log(apart[1] or 1))
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


@dataclass(frozen=True)
class _Rate:
    """One learning rate: pairs without and with preparation, and how much more the loss climbs with it."""

    rate: float
    pairs: tuple[tuple[Record, Record], ...]
    difference: Estimate
    standing: str
    p_value: float


def _preparation(evidence: Evidence) -> Finding:
    pairs = evidence.pairs("kbit_preparation", False, True, {**_TEXT, "quantization": "int8"})
    pairs = [pair for pair in pairs if all(loss_curves([record]) is not None for record in pair)]
    by_rate: dict[float, list[tuple[Record, Record]]] = {}
    for pair in pairs:
        by_rate.setdefault(setting(pair[0], "learning_rate"), []).append(pair)
    rates = [_rate(rate, some) for rate, some in sorted(by_rate.items()) if len(some) > 1]
    price = _told_price(evidence)
    if not rates:
        missing = "int8 training of a pretrained model on text with and without preparation, two seeds or more"
        return not_tested(missing, evidence=keys(record for pair in pairs for record in pair))
    names = {
        standing: [f"learning rate {one.rate:g}" for one in rates if one.standing in standing.split("|")]
        for standing in ("steadier", "same|less steady", "unclear")
    }
    holding, failing, unclear = names.values()
    everything = mean([_difference(pair) for one in rates for pair in one.pairs])
    return Finding(
        combined(holding, failing, unclear),
        " ".join(_told_rate(one) for one in rates) + price,
        effect=everything.value,
        ci95=everything.ci95,
        n=everything.n,
        condition=f"at {', '.join(holding)}; not at {', '.join(failing)}" if holding and failing else None,
        evidence=keys(record for one in rates for pair in one.pairs for record in pair),
        rows=tuple(_rate_row(one) for one in rates),
        p_value=max((one.p_value for one in rates if one.standing != "unclear"), default=None),
    )


def _difference(pair: tuple[Record, Record]) -> float:
    return climbs(pair[1]) - climbs(pair[0])


def _rate(rate: float, pairs: Sequence[tuple[Record, Record]]) -> _Rate:
    differences = [_difference(pair) for pair in pairs]
    found = mean(differences)
    of = partial(_Rate, rate, tuple(pairs), found)
    if -_MARGIN < found.low and found.high < _MARGIN:
        return of("same", p_mean_within(differences, _MARGIN))
    if found.high < 0:
        return of("steadier", p_mean_below(differences, 0))
    if found.low > 0:
        return of("less steady", p_mean_below([-one for one in differences], 0))
    return of("unclear", 1.0)


def _told_rate(one: _Rate) -> str:
    without, prepared = ([pair[index] for pair in one.pairs] for index in (0, 1))
    low, high = one.difference.ci95
    return (
        f"At {one.rate:g} the loss climbs {mean([climbs(record) for record in without]).value:.3f} nats a step without "
        f"and {mean([climbs(record) for record in prepared]).value:.3f} with preparation (difference "
        f"{one.difference.value:+.3f} [{low:+.3f}, {high:+.3f}]); {sum(map(diverged, without))} and "
        f"{sum(map(diverged, prepared))} of {len(without)} runs diverge."
    )


def _rate_row(one: _Rate) -> dict[str, Any]:
    without, prepared = ([pair[index] for pair in one.pairs] for index in (0, 1))
    return {
        "learning rate": one.rate,
        "seeds": len(one.pairs),
        "climbs without": mean([climbs(record) for record in without]).value,
        "climbs with": mean([climbs(record) for record in prepared]).value,
        "difference": one.difference.value,
        "low": one.difference.low,
        "high": one.difference.high,
        "mean loss without": mean([mean_loss(record) for record in without]).value,
        "mean loss with": mean([mean_loss(record) for record in prepared]).value,
        "diverged without": sum(map(diverged, without)),
        "diverged with": sum(map(diverged, prepared)),
    }


def _told_price(evidence: Evidence) -> str:
    """What preparation adds to static memory, exactly, a model."""
    sentences: dict[str, str] = {}
    for without, prepared in evidence.pairs("kbit_preparation", False, True, {"task": "train", "quantization": "int8"}):
        static = [one.memory.static_bytes if one.memory else None for one in (without, prepared)]
        if not all(static):
            continue
        shapes, model = shapes_of(prepared), str(setting(prepared, "model"))
        share = "" if shapes is None else _told_share(shapes.weight_bytes("int8", prepared=True), shapes.parameters)
        added = (static[1] or 0) - (static[0] or 0)
        sentences[model] = f" On {model} it adds {told(added)} to the {told(static[0] or 0)} of static memory{share}."
    return "".join(sentences.values())


def _told_share(prepared: int, parameters: int) -> str:
    return f": base weights then take {prepared / (2 * parameters):.3f} of their 16 bits"


ALPHA_DECOUPLES_RANK = Claim(
    id="alpha-decouples-rank",
    chapter="2",
    title="alpha decouples the rank",
    hypothesis="Scaling by alpha / r lets the rank change at one learning rate: loss curves and the update's norm lie "
    "closer together over the ranks than without scaling.",
    method="A pretrained model is trained on real text at several ranks and one learning rate, with alpha / r, with "
    "alpha = r (no scaling) and with alpha / sqrt(r). Two spreads are taken for each seed: the mean over the steps of "
    "the distance between highest and lowest loss, and the logarithm of largest by smallest norm of scaling x B A. "
    "Spreads with alpha / r are divided by those without scaling, seed by seed (geometric mean, Student's interval).",
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
    caveat={"cpu": "One small model and thirty steps on one batch: what a CPU can train; a GPU can go further."},
)

INT8_PREPARATION = Claim(
    id="int8-preparation",
    chapter="3.1",
    title="Preparation steadies int8 training",
    hypothesis="Preparing an int8 model (embeddings, norms and head in fp32) makes training steadier: the loss climbs "
    "less on its way down, at every learning rate tried.",
    method="A pretrained int8 model is trained on real text with and without preparation, by several seeds, at learning "
    "rates up to those that diverge. How much a curve climbs is the sum of its rises by its steps; the difference is "
    "taken seed by seed (Student's interval). Static bytes say what preparation costs.",
    refuted_by="Curves that climb as much (within 0.01 nats a step, tested as an equivalence) or more with preparation.",
    threshold=0.0,
    threshold_text="Below 0, interval included, at each learning rate. Within 0.01 nats a step counts as no difference: "
    "over a run of thirty steps it comes to 0.3 nats, which a plotted curve would hardly show.",
    unit="nats a step that the loss climbs more with preparation",
    test=_preparation,
    figure=Figure(
        "points",
        x="learning rate",
        y="difference",
        low="low",
        high="high",
        reference=0.0,
        x_label="learning rate",
        y_label="climbs with preparation less without, nats a step",
        log_x=True,
    ),
    then="prepare_model_for_int8_training(model)",
    now="prepare_model_for_kbit_training(model)",
    caveat={
        "cpu": "Only a GPU runs the int8 kernels that users train with; a CPU dequantizes and multiplies in 16 bits."
    },
)
