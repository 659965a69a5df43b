"""Claims of chapter 5: what a saved adapter holds, and what comes back of it."""

from __future__ import annotations

from lorabench.analysis.claims.claim import Claim, Figure, Finding, not_tested
from lorabench.analysis.claims.conditions import decide, facts, labels
from lorabench.analysis.claims.evidence import Evidence, keys
from lorabench.analysis.claims.lifecycle import flag, having, integer, is_plain, median_ms, names, number, span, took
from lorabench.record import Record


def _test_adapter_only(evidence: Evidence) -> Finding:
    saved = [record for record in having(evidence, "save") if _is_judged(record)]
    if not any(map(is_plain, saved)):
        return not_tested(
            "lifecycle cases with bias none and no trained head that save the adapter, and the bytes that its file "
            "should have",
            evidence=keys(saved),
        )
    clean = [record for record in saved if not _save_problem(record)]
    others = [record for record in saved if names(record, "save.other_keys")]
    verdict, where = decide(
        [facts(record) for record in clean], [facts(record) for record in saved if _save_problem(record)]
    )
    # Where other keys are saved, the file is not an adapter's alone: its bytes are told in the rows.
    exact = [ratio for record in saved if record not in others and (ratio := _of_expected(record)) is not None]
    shares = [share for record in clean if (share := _share(record)) is not None]
    unit = "% of the whole model's"
    return Finding(
        verdict,
        f"{len(clean)} of {len(saved)} files hold LoRA weights alone, at exactly the expected bytes; "
        f"{len(others)} hold other keys too. An adapter's file is {span([100 * share for share in shares], unit)}. "
        f"{took('Saving', saved, 'save')}",
        effect=max(exact, key=lambda ratio: abs(ratio - 1), default=None),
        n=len(saved),
        condition=where,
        evidence=keys(saved),
        rows=tuple(
            {
                "case": name,
                "file bytes": integer(record, "save.file_bytes"),
                "expected bytes": integer(record, "save.expected_bytes"),
                "whole model bytes": integer(record, "save.full_file_bytes"),
                "% of the whole": None if (share := _share(record)) is None else 100 * share,
                "keys": integer(record, "save.keys"),
                "other keys": len(names(record, "save.other_keys") or ()),
                "save ms": median_ms(record, "save"),
                "problem": _save_problem(record),
            }
            for record, name in zip(saved, labels(saved), strict=True)
        ),
    )


def _is_judged(record: Record) -> bool:
    """Whether it tells enough: other keys alone decide, none need the bytes beside them."""
    return bool(names(record, "save.other_keys")) or (
        names(record, "save.other_keys") == [] and _of_expected(record) is not None
    )


def _save_problem(record: Record) -> str | None:
    other = names(record, "save.other_keys") or []
    if other:
        more = f" and {len(other) - 1} more" if len(other) > 1 else ""
        return f"saves {other[0]}{more}"
    if _of_expected(record) != 1.0:
        expected = integer(record, "save.expected_bytes")
        return f"{integer(record, 'save.file_bytes')} bytes instead of {expected}"
    return None


def _of_expected(record: Record) -> float | None:
    saved, expected = integer(record, "save.file_bytes"), integer(record, "save.expected_bytes")
    return saved / expected if saved is not None and expected else None


def _share(record: Record) -> float | None:
    saved, whole = integer(record, "save.file_bytes"), integer(record, "save.full_file_bytes")
    return saved / whole if saved is not None and whole else None


ADAPTER_ONLY_CHECKPOINT = Claim(
    id="adapter-only-checkpoint",
    chapter="5",
    title="A checkpoint holds the adapter alone",
    hypothesis="Saving a LoRA model writes its LoRA weights and nothing else.",
    method="The keys of adapter_model.safetensors are read, and its bytes compared with those computed from the ranks "
    "and the layers' sizes; the whole model is written too, for the ratio.",
    refuted_by="A key that is no LoRA weight, or bytes that differ from the computed ones.",
    threshold=1.0,
    threshold_text="no key without lora_, and the file's bytes as computed",
    unit="file bytes / expected bytes",
    test=_test_adapter_only,
    figure=Figure("bars", x="case", y="% of the whole", x_label="case", y_label="adapter file, % of the whole model's"),
    cause="get_peft_model_state_dict in peft/utils/save_and_load.py saves the adapter's tensors and the biases that "
    "its mode trains, which BaseTuner._get_learnable_bias_state_dict in peft/tuners/tuners_utils.py chooses: under "
    "bias all those of the whole model. It adds the layers of modules_to_save: a classifier's head.",
    reads="saved files",
)


def _test_restores(evidence: Evidence) -> Finding:
    records = [record for record in having(evidence, "restore") if flag(record, "restore.equal") is not None]
    if not records:
        return not_tested("lifecycle cases that restore a saved adapter into a fresh base")
    equal = [record for record in records if flag(record, "restore.equal")]
    verdict, where = decide(
        [facts(record) for record in equal],
        [facts(record) for record in records if not flag(record, "restore.equal")],
    )
    farthest = [value for record in records if (value := number(record, "restore.max_abs")) is not None]
    return Finding(
        verdict,
        f"Restored into a fresh base, {len(equal)} of {len(records)} adapters gave the outputs from before saving bit "
        f"for bit. {took('Restoring', records, 'restore')}",
        effect=max(farthest, default=None),
        n=len(records),
        condition=where,
        evidence=keys(records),
        rows=tuple(
            {
                "case": name,
                "outputs equal": flag(record, "restore.equal"),
                "largest difference": number(record, "restore.max_abs"),
                "restore ms": median_ms(record, "restore"),
            }
            for record, name in zip(records, labels(records), strict=True)
        ),
    )


ADAPTER_RESTORES = Claim(
    id="adapter-restores",
    chapter="5",
    title="A saved adapter comes back",
    hypothesis="set_peft_model_state_dict brings a saved adapter back into a fresh base, bit for bit.",
    method="A trained adapter is saved; a fresh base of the same weights gets a new adapter, into which the saved "
    "weights are loaded; logits before and after are compared.",
    refuted_by="A logit that differs from before saving.",
    threshold=0.0,
    threshold_text="no logit differs",
    unit="largest difference of a logit",
    test=_test_restores,
    figure=Figure("bars", x="case", y="restore ms", x_label="case", y_label="restoring the adapter, ms"),
    reads="outputs",
)
