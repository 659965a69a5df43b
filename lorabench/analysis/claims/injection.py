"""Claims of chapter 4 on injection: which layers an adapter replaces, what trains, and what a fresh one changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorabench.analysis.claims.claim import Claim, Figure, Finding, not_tested
from lorabench.analysis.claims.conditions import decide, facts, in_order, labels
from lorabench.analysis.claims.evidence import Evidence, keys, observed
from lorabench.analysis.claims.lifecycle import flag, having, integer, is_plain, median_ms, names, number, span, took
from lorabench.record import Record

_MODULES = "lifecycle cases that list the replaced modules and the trainable parameters"
_GRADIENTS = "training cases that count the adapter's gradients and compare the base weights"


def _test_injection(evidence: Evidence) -> Finding:
    injected = [record for record in having(evidence, "modules") if _module_problems(record) is not None]
    trained = in_order(
        {record.identity: record for record in evidence.where(task="train") if _is_trained(record)}.values()
    )
    silent = [record for record in evidence.others if _silent(record)]
    missing = [
        text
        for text, records in ((_MODULES, [one for one in injected if is_plain(one)]), (_GRADIENTS, trained + silent))
        if not records
    ]
    if missing:
        return not_tested(*missing, evidence=keys(injected + trained))
    records = injected + trained + silent
    problems = {record.identity: _problems(record) for record in records}
    verdict, where = decide(
        [facts(record) for record in records if not problems[record.identity]],
        [facts(record) for record in records if problems[record.identity]],
    )
    if silent:
        verdict, where = "refuted", None
    arrived, expected = _gradients(trained + silent)
    # Training cases that are as they should be say nothing that their count does not.
    shown = injected + [record for record in trained + silent if problems[record.identity]]
    wrong = sorted({text for texts in problems.values() for text in texts})
    return Finding(
        verdict,
        f"{len(injected)} lifecycle cases replaced {sum(integer(one, 'modules.replaced') or 0 for one in injected)} of "
        f"{sum(integer(one, 'modules.expected') or 0 for one in injected)} targeted layers; in {len(trained)} training "
        f"cases {arrived} of {expected} adapter gradients arrived. {took('Attaching', injected, 'attach')}"
        + (f" Seen besides: {'; '.join(wrong)}." if wrong else " Nothing else trains, and no base weight changed."),
        effect=arrived / expected if expected else None,
        n=len(records),
        condition=where,
        evidence=keys(records),
        rows=tuple(
            {
                "case": name,
                "task": record.case["task"],
                "replaced": integer(record, "modules.replaced"),
                "targeted": integer(record, "modules.expected"),
                "other trainable parameters": _others(record),
                "base unchanged": _base_unchanged(record),
                "attach ms": median_ms(record, "attach"),
                "problem": "; ".join(problems[record.identity]) or None,
            }
            for record, name in zip(shown, labels(shown), strict=True)
        ),
    )


def _module_problems(record: Record) -> list[str] | None:
    """What is wrong with the replaced modules; None where the record does not tell."""
    replaced, expected = integer(record, "modules.replaced"), integer(record, "modules.expected")
    extra, lacking = names(record, "modules.unexpected"), names(record, "modules.missing")
    if replaced is None or expected is None or extra is None or lacking is None or _trainable(record) is None:
        return None
    problems = []
    if extra:
        problems.append("layers that no target names have an adapter")
    if lacking or replaced - len(extra) != expected:
        problems.append("targeted layers have no adapter")
    return problems


def _problems(record: Record) -> list[str]:
    if _silent(record):
        return ["an adapter trains in silence: gradients are missing or zero"]
    problems = list(_module_problems(record) or ())
    trainable = _trainable(record) or {}
    problems += [
        f"{what} train beside the adapter"
        for kind, what in (("bias", "biases"), ("head", "head weights"), ("other", "other weights"))
        if trainable.get(kind)
    ]
    if _base_unchanged(record) is False:
        problems.append("base weights changed")
    return problems


def _trainable(record: Record) -> Mapping[str, Any] | None:
    for part in ("lifecycle.trainable", "training.trainable"):
        found = observed(record, part)
        if isinstance(found, Mapping):
            return found
    return None


def _others(record: Record) -> int | None:
    found = _trainable(record)
    counts = [found.get(kind) for kind in ("bias", "head", "other")] if found is not None else []
    return sum(count for count in counts if isinstance(count, int)) if counts else None


def _base_unchanged(record: Record) -> bool | None:
    for part in ("lifecycle.base_unchanged", "training.base_unchanged"):
        found = observed(record, part)
        if isinstance(found, bool):
            return found
    return None


def _is_trained(record: Record) -> bool:
    """Whether it is a training case with an adapter that tells all that the claim asks."""
    counted = record.proof is not None and record.proof.adapter_gradients is not None
    return record.case.get("adapter") is not None and counted and _base_unchanged(record) is not None


def _silent(record: Record) -> bool:
    """Whether adapter weights got no gradient: the bench refuses such a record, and says why in its proof."""
    gradients = record.proof.adapter_gradients if record.proof is not None else None
    return gradients is not None and min(gradients.arrived, gradients.nonzero) < gradients.expected


def _gradients(records: list[Record]) -> tuple[int, int]:
    found = [record.proof.adapter_gradients for record in records if record.proof is not None]
    counted = [gradients for gradients in found if gradients is not None]
    return sum(min(one.arrived, one.nonzero) for one in counted), sum(one.expected for one in counted)


INJECTION_REPLACES_AND_FREEZES = Claim(
    id="injection-replaces-and-freezes",
    chapter="4.1, 4.2",
    title="Injection replaces and freezes",
    hypothesis="LoRA replaces exactly the targeted layers, trains its own parameters alone, and leaves the base alone.",
    method="The modules with an adapter are compared, by name, with the layers that the targets name; parameters that "
    "require gradients are counted by kind; the base weights' bytes are compared before and after training; each "
    "adapter gradient is read from the second step on.",
    refuted_by="A targeted layer without an adapter or another with one, a base weight that changed, or an adapter "
    "weight whose gradient is missing or zero.",
    threshold=1.0,
    threshold_text="every adapter gradient arrives, and nothing else is replaced or trained",
    unit="share of adapter gradients that arrive",
    test=_test_injection,
    figure=Figure("bars", x="case", y="attach ms", x_label="case", y_label="attaching the adapter, ms"),
    cause="BaseTuner._mark_only_adapters_as_trainable in peft/tuners/tuners_utils.py lets every bias of the model "
    "train under bias all, and those of adapted layers under lora_only. PeftModelForSequenceClassification.__init__ "
    "and PeftModelForTokenClassification.__init__ in peft/peft_model.py add the classifier's names to modules_to_save, "
    "so that its head trains.",
    reads="gradients or trained weights",
)


def _test_identity(evidence: Evidence) -> Finding:
    records = [
        record
        for record in having(evidence, "identity")
        if None not in (flag(record, "identity.equal_before_step"), flag(record, "identity.equal_after_step"))
    ]
    if not records:
        return not_tested("lifecycle cases that compare outputs with and without a fresh adapter")
    before = [bool(flag(record, "identity.equal_before_step")) for record in records]
    after = [bool(flag(record, "identity.equal_after_step")) for record in records]
    holds = [one and not other for one, other in zip(before, after, strict=True)]
    verdict, where = decide(
        [facts(record) for record, hold in zip(records, holds, strict=True) if hold],
        [facts(record) for record, hold in zip(records, holds, strict=True) if not hold],
    )
    moved = [number(record, "identity.max_abs_after") for record in records]
    farthest = [value for record in records if (value := number(record, "identity.max_abs_before")) is not None]
    return Finding(
        verdict,
        f"Outputs with a fresh adapter equal the base's bit for bit in {sum(before)} of {len(records)} cases; after "
        f"one step they still do in {sum(after)}. The step moved some logit by {span(moved)}.",
        effect=max(farthest, default=None),
        n=len(records),
        condition=where,
        evidence=keys(records),
        rows=tuple(
            {
                "case": name,
                "equal before": flag(record, "identity.equal_before_step"),
                "largest difference before": number(record, "identity.max_abs_before"),
                "equal after": flag(record, "identity.equal_after_step"),
                "largest difference after": number(record, "identity.max_abs_after"),
            }
            for record, name in zip(records, labels(records), strict=True)
        ),
    )


STARTS_AS_IDENTITY = Claim(
    id="starts-as-identity",
    chapter="4.3",
    title="A fresh adapter changes nothing",
    hypothesis="Before its first step an adapted model answers as its base does, bit for bit; after it, no longer.",
    method="The same prompt is put to the base and to the model with the adapter, before and after one training step, "
    "and all logits are compared.",
    refuted_by="A logit that differs before the first step, or none that differs after it.",
    threshold=0.0,
    threshold_text="no logit differs before the first step, and some do after it",
    unit="largest difference of a logit before the step",
    test=_test_identity,
    figure=Figure(
        "bars",
        x="case",
        y="largest difference after",
        reference=0.0,
        x_label="case",
        y_label="largest difference of a logit after one step",
    ),
    reads="outputs",
)
