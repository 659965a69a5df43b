"""The claim of chapter 7 on disabling: whether the base comes back, and the adapter after it."""

from __future__ import annotations

from collections.abc import Sequence

from lorabench.analysis.claims.claim import Claim, Figure, Finding, not_tested
from lorabench.analysis.claims.conditions import Facts, decide, facts, labels
from lorabench.analysis.claims.evidence import Evidence, keys, samples
from lorabench.analysis.claims.lifecycle import flag, having, is_plain, median_ms, number, span
from lorabench.analysis.statistics import Estimate, paired_ratio
from lorabench.record import Record


def _test_disable(evidence: Evidence) -> Finding:
    records = [record for record in having(evidence, "disable") if _disabled(record)]
    if not any(is_plain(record) for record in records):
        return not_tested("lifecycle cases with bias none that disable the adapter", evidence=keys(records))
    tested = [one for record in records for one in _disabled(record)]
    verdict, where = decide([one for one, held in tested if held], [one for one, held in tested if not held])
    unmerged = [record for record in records if flag(record, "disable.equal_inside")]
    back = [record for record in records if flag(record, "disable.equal_after")]
    merged = [flag(record, "disable.merged_equal_inside") for record in records]
    off = [
        number(record, f"disable.{name}") or 0.0
        for record in records
        for name in ("max_abs_inside", "merged_max_abs_inside")
    ]
    return Finding(
        verdict,
        f"Inside disable_adapter outputs were the base's bit for bit in {len(unmerged)} of {len(records)} cases, and "
        f"{merged.count(True)} of {len(merged) - merged.count(None)} while merged; outside they were the adapter's "
        f"again in {len(back)}. {_disabled_time(records)}",
        effect=max(off),
        n=len(tested),
        condition=where,
        evidence=keys(records),
        rows=tuple(
            {
                "case": name,
                "equal inside": flag(record, "disable.equal_inside"),
                "largest difference inside": number(record, "disable.max_abs_inside"),
                "equal again outside": flag(record, "disable.equal_after"),
                "merged: equal inside": flag(record, "disable.merged_equal_inside"),
                "merged: largest difference": number(record, "disable.merged_max_abs_inside"),
                "disabled forward ms": median_ms(record, "disabled_forward"),
                "base forward ms": median_ms(record, "base_forward"),
                "ratio": ratio.value if (ratio := _disabled_ratio(record)) else None,
                "low": ratio.low if ratio else None,
                "high": ratio.high if ratio else None,
            }
            for record, name in zip(records, labels(records), strict=True)
        ),
    )


def _disabled(record: Record) -> list[tuple[Facts, bool]]:
    """What was disabled in a record, unmerged and merged, and whether the base came back each time."""
    inside, after = flag(record, "disable.equal_inside"), flag(record, "disable.equal_after")
    merged = flag(record, "disable.merged_equal_inside")
    if inside is None or after is None:
        return []
    tested = [(facts(record, state="unmerged"), inside and after)]
    return tested if merged is None else [*tested, (facts(record, state="merged"), merged)]


def _disabled_ratio(record: Record) -> Estimate | None:
    """Disabled by base forward time, pair by pair: the two take turns in one process, but a case is one process."""
    inside, base = samples(record, "disabled_forward"), samples(record, "base_forward")
    return paired_ratio(inside, base) if len(inside) == len(base) > 1 else None


def _disabled_time(records: Sequence[Record]) -> str:
    ratios = [ratio.value for record in records if (ratio := _disabled_ratio(record))]
    return f"A forward pass inside took {span(ratios)} times the base's." if ratios else "Its time was not measured."


ADAPTERS_DISABLE = Claim(
    id="adapters-disable",
    chapter="7",
    title="disable_adapter gives the base back",
    hypothesis="Inside disable_adapter the model answers as its base, bit for bit; outside, as the adapter again.",
    method="Logits inside the context are compared with those of the bare base, with the adapter unmerged and merged, "
    "and logits after it with those before; a forward pass inside takes turns with one of the base. The ratio is that "
    "of the pairs (trimmed geometric mean with Student's interval): the two medians, each of its own samples, need not "
    "divide to it.",
    refuted_by="A logit inside the context that is not the base's, or one after it that is not the adapter's.",
    threshold=0.0,
    threshold_text="no logit differs, inside the context and after it",
    unit="largest difference of a logit from the base's",
    test=_test_disable,
    figure=Figure(
        "bars",
        x="case",
        y="merged: largest difference",
        reference=0.0,
        x_label="case",
        y_label="largest difference of a logit, disabled while merged",
    ),
    cause="BaseTuner.disable_adapter_layers in peft/tuners/tuners_utils.py switches A and B off and leaves trained "
    "biases where they are, with a warning; merged weights are unmerged first, by a subtraction that rounds, and in "
    "int8 and nf4 they are quantized again (unmerge() in peft/tuners/lora/bnb.py).",
    caveat={"cpu": "Where a GPU waits for launches, the disabled layers' extra Python shows more than on a CPU."},
    reads="outputs",
)
