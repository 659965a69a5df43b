"""Whether preparing an int8 model for training makes it steadier, read from loss curves, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lorabench.analysis.claims.claim import Claim, Figure, Finding, not_tested
from lorabench.analysis.claims.curves import TRAINED_ON_TEXT, climbs, diverged, loss_curves, mean_loss
from lorabench.analysis.claims.evidence import Evidence, dynamic_bytes, keys, setting, static_bytes
from lorabench.analysis.claims.shapes import shapes_of
from lorabench.analysis.claims.words import combined, told
from lorabench.analysis.statistics import Estimate, mean, p_mean_below, p_mean_within
from lorabench.record import Record

_MARGIN = 0.01
"""Nats a step: thirty steps of it come to 0.3 nats, which a plotted curve would hardly show."""


@dataclass(frozen=True)
class _Rate:
    """One learning rate: pairs without and with preparation, and how much more the loss climbs with it."""

    rate: float
    pairs: tuple[tuple[Record, Record], ...]
    difference: Estimate
    standing: str
    p_value: float


def _preparation(evidence: Evidence) -> Finding:
    pairs = evidence.pairs("kbit_preparation", False, True, {**TRAINED_ON_TEXT, "quantization": "int8"})
    pairs = [pair for pair in pairs if all(loss_curves([record]) is not None for record in pair)]
    by_rate: dict[float, list[tuple[Record, Record]]] = {}
    for pair in pairs:
        by_rate.setdefault(setting(pair[0], "learning_rate"), []).append(pair)
    rates = [_rate(rate, some) for rate, some in sorted(by_rate.items()) if len(some) > 1]
    price, priced = _told_price(evidence)
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
        evidence=keys([*(record for one in rates for pair in one.pairs for record in pair), *priced]),
        rows=tuple(_rate_row(one) for one in rates),
        p_value=max((one.p_value for one in rates if one.standing != "unclear"), default=None),
    )


def _difference(pair: tuple[Record, Record]) -> float:
    return climbs(pair[1]) - climbs(pair[0])


def _rate(rate: float, pairs: Sequence[tuple[Record, Record]]) -> _Rate:
    differences = [_difference(pair) for pair in pairs]
    found = mean(differences)
    of = partial(_Rate, rate, tuple(pairs), found)
    if found.low > -_MARGIN and found.high < _MARGIN:
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


def _told_price(evidence: Evidence) -> tuple[str, list[Record]]:
    """What preparation adds to static and to dynamic memory, a model, and the records that say so."""
    sentences: dict[str, str] = {}
    records: dict[str, tuple[Record, Record]] = {}
    for without, prepared in evidence.pairs("kbit_preparation", False, True, {"task": "train", "quantization": "int8"}):
        static = [static_bytes(one) for one in (without, prepared)]
        if not all(static):
            continue
        shapes, model = shapes_of(prepared), str(setting(prepared, "model"))
        share = "" if shapes is None else _told_share(shapes.weight_bytes("int8", prepared=True), shapes.parameters)
        added = static[1] - static[0]
        records[model] = (without, prepared)
        sentences[model] = (
            f" On {model} it adds {told(added)} to the {told(static[0])} of static memory{share}"
            f"{_told_dynamic(without, prepared)}."
        )
    return "".join(sentences.values()), [record for pair in records.values() for record in pair]


def _told_dynamic(without: Record, prepared: Record) -> str:
    before, after = map(dynamic_bytes, (without, prepared))
    return f", and {told(after - before)} to the {told(before)} of dynamic memory" if before and after > before else ""


def _told_share(prepared: int, parameters: int) -> str:
    return f": base weights then take {prepared / (2 * parameters):.3f} of their 16 bits"


INT8_PREPARATION = Claim(
    id="int8-preparation",
    chapter="3.1",
    title="Preparation steadies int8 training",
    hypothesis="Preparing an int8 model (embeddings, norms and head in fp32) makes training steadier: the loss climbs "
    "less on its way down, at every learning rate tried.",
    method="A pretrained int8 model is trained on real text with and without preparation, by several seeds, at "
    "learning rates up to those that diverge. How much a curve climbs is the sum of its rises by its steps; "
    "the difference is taken seed by seed (Student's interval). A run repeats one window of text, which its seed "
    "chooses, and its curve begins with the first step that was kept (losses_from_step); it diverges if it ends above "
    "that, passes the loss of a uniform guess or is not finite. Bytes say what preparation costs.",
    refuted_by="Curves that climb as much (within 0.01 nats a step, tested as an equivalence) or more with it.",
    threshold=0.0,
    threshold_text="Below 0, interval included, at each learning rate. Within 0.01 nats a step counts as no "
    "difference: over a run of thirty steps it comes to 0.3 nats, which a plotted curve would hardly show.",
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
    cause="prepare_model_for_kbit_training in peft/utils/other.py turns every 16-bit parameter that is not packed in "
    "4 bits into fp32: embeddings and head, two bytes more for each of their parameters, and norms. int8 weights are "
    "no 16-bit ones and stay. So the price follows the vocabulary.",
    caveat={
        "cpu": "Only a GPU runs the int8 kernels that users train with; a CPU dequantizes and multiplies in 16 bits."
    },
    reads="losses",
)
