"""Claims of chapter 7 on several adapters: side by side on one base, and switched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lorabench.analysis.claims.claim import Claim, Figure, Finding, not_tested
from lorabench.analysis.claims.conditions import decide, facts, labels
from lorabench.analysis.claims.evidence import Evidence, keys, observed, setting
from lorabench.analysis.claims.lifecycle import (
    flag,
    having,
    integer,
    median_ms,
    numbers,
    span,
    timed_ms,
)
from lorabench.analysis.statistics import line
from lorabench.record import Record
from lorabench.wording import counted

COUNTS = (1, 8, 32, 64)
# The slack of large blocks that CUDA's caching allocator does not split counts as allocated.
_CUDA_SLACK = 0.005
# A line has residuals from three points on.
_MIN_LOADS = 3
_ONE_WITH_BIAS = (
    "Of all adapters one may have a bias: BaseTuner._check_new_adapter_config in peft/tuners/tuners_utils.py raises at "
    "a second."
)


def _test_side_by_side(evidence: Evidence) -> Finding:
    records = [record for record in having(evidence, "adapters") if _refused(record, "adapters") or _is_loaded(record)]
    loaded = [record for record in records if _is_loaded(record)]
    if not loaded:
        return _untested(records, "adapters", "lifecycle cases that load further adapters beside the first")
    problems = {record.identity: _loading_problem(record) for record in records}
    verdict, where = decide(
        [facts(record) for record in records if not problems[record.identity]],
        [facts(record) for record in records if problems[record.identity]],
    )
    equal = [record for record in loaded if flag(record, "adapters.equal_alone")]
    refused = len(records) - len(loaded)
    return Finding(
        verdict,
        f"Each adapter answered as it does alone, bit for bit, in {len(equal)} of {len(loaded)} cases; a further "
        f"adapter took {span([_farthest(record) for record in loaded])} times its own bytes. {_load_time(loaded)}"
        + (f" PEFT refused a second adapter in {refused} more." if refused else ""),
        effect=max((_farthest(record) for record in loaded), key=lambda ratio: abs(ratio - 1)),
        n=sum(len(numbers(record, "adapters.bytes_each")) for record in loaded),
        condition=where,
        evidence=keys(records),
        rows=tuple(
            {
                "case": name,
                "adapters": _count(record),
                "equal alone": flag(record, "adapters.equal_alone"),
                "bytes each": max(numbers(record, "adapters.bytes_each"), default=None),
                "expected bytes": integer(record, "adapters.expected_bytes"),
                "bytes back on delete": integer(record, "delete.bytes_back"),
                "load ms, first": _load_ms(record)[0],
                "load ms, last": _load_ms(record)[1],
                "problem": problems[record.identity],
            }
            for record, name in zip(records, labels(records, "adapter_count"), strict=True)
        ),
    )


def _untested(records: Sequence[Record], part: str, *missing: str) -> Finding:
    """Says why where PEFT refused: who ran such a case would look for it, told that the records lack it."""
    finding = not_tested(*missing, evidence=keys(records))
    refusals = [reason for record in records if (reason := _refused(record, part))]
    if not refusals:
        return finding
    reasons = "; ".join(dict.fromkeys(reason.rstrip(".") for reason in refusals))
    told = f"{finding.summary} PEFT refused a second adapter in {counted(len(refusals), 'case')}: {reasons}."
    return replace(finding, summary=told)


def _is_loaded(record: Record) -> bool:
    return (
        flag(record, "adapters.equal_alone") is not None
        and bool(numbers(record, "adapters.bytes_each"))
        and bool(integer(record, "adapters.expected_bytes"))
    )


def _refused(record: Record, part: str) -> str | None:
    reason = observed(record, f"lifecycle.{part}.refused")
    return reason if isinstance(reason, str) else None


def _farthest(record: Record) -> float:
    """Of the bytes that further adapters took, the farthest from those expected, as a share of them."""
    expected = integer(record, "adapters.expected_bytes") or 1
    return max((nbytes / expected for nbytes in numbers(record, "adapters.bytes_each")), key=lambda one: abs(one - 1))


def _loading_problem(record: Record) -> str | None:
    if refused := _refused(record, "adapters"):
        return f"refused: {refused}"
    allowed = _CUDA_SLACK if record.device.type == "cuda" else 0.0
    problems = [
        "" if flag(record, "adapters.equal_alone") else "outputs differ from those of an adapter alone",
        f"{_farthest(record):.4g} times its own bytes" if abs(_farthest(record) - 1) > allowed else "",
    ]
    return "; ".join(filter(None, problems)) or None


def _count(record: Record) -> int:
    return integer(record, "adapters.count") or int(setting(record, "adapter_count") or 1)


def _load_ms(record: Record) -> tuple[float | None, float | None]:
    loads = numbers(record, "adapters.load_s")
    return (loads[0] * 1e3, loads[-1] * 1e3) if loads else (None, None)


def _load_time(records: Sequence[Record]) -> str:
    """How long loading takes, and what each adapter that is there already adds to it, in each case with enough."""
    series = sorted(
        (
            (setting(record, "model"), [seconds * 1e3 for seconds in numbers(record, "adapters.load_s")])
            for record in records
        ),
        key=lambda one: len(one[1]),
        reverse=True,
    )
    model, longest = series[0]
    if len(longest) < _MIN_LOADS:
        return f"Loading one took {span(longest, 'ms')}."
    others = [one for one in series[1:] if len(one[1]) >= _MIN_LOADS]
    several = len({one[0] for one in (series[0], *others)}) > 1

    def on(name: object) -> str:
        return f" on {name}" if several else ""

    rest = ", ".join(f"of {len(loads_ms)}{on(name)} {_slope(loads_ms)}" for name, loads_ms in others)
    return (
        f"Of {len(longest)} loaded one after the other{on(model)}, each took {span(longest, 'ms')}, {_slope(longest)} "
        f"for each adapter already there{f' ({rest})' if rest else ''}."
    )


def _slope(loads_ms: Sequence[float]) -> str:
    fit = line(range(1, len(loads_ms) + 1), loads_ms)
    low, high = fit.slope_ci95
    return f"{fit.slope:+.2g} ms [{low:.2g}, {high:.2g}]"


ADAPTERS_LIVE_SIDE_BY_SIDE = Claim(
    id="adapters-live-side-by-side",
    chapter="7",
    title="Adapters live side by side",
    hypothesis="Several named adapters share one base: each answers as it would alone, and each costs its own bytes.",
    method="1, 8, 32 and 64 adapters with different weights are loaded beside the first. Each is made active and its "
    "logits compared with those of a model that holds it alone; the bytes that each load allocated are compared "
    "with those of its tensors.",
    refuted_by="An adapter that answers differently in company, or bytes beyond its own.",
    threshold=1.0,
    threshold_text=f"outputs equal bit for bit, bytes equal (on CUDA within {_CUDA_SLACK:.1%}: the allocator's slack)",
    unit="bytes of a further adapter / its own",
    test=_test_side_by_side,
    figure=Figure(
        "lines",
        x="adapters",
        y="load ms, last",
        series="case",
        x_label="adapters beside the first",
        y_label="loading the last of them, ms",
        log_x=True,
    ),
    cause=f"{_ONE_WITH_BIAS} A load takes longer the more there are, for it walks the modules and parameters of all of "
    "them again, several times. Profiled on a CPU (peft 0.21.0, 16 layers, 64 adapters; not among the records), it "
    "spends about 60% of its time under BaseTuner.inject_adapter in peft/tuners/tuners_utils.py and 20 to 30% under "
    "set_peft_model_state_dict in peft/utils/save_and_load.py.",
    reads="outputs",
)


def _test_switch(evidence: Evidence) -> Finding:
    seen = having(evidence, "switch")
    records = [record for record in seen if flag(record, "switch.follows") is not None or _refused(record, "switch")]
    switched = [record for record in records if flag(record, "switch.follows") is not None]
    counts = sorted({_count(record) for record in switched})
    lacking = [str(count) for count in COUNTS if count not in counts]
    missing = (f"lifecycle cases with adapter_count {', '.join(lacking)}",) if lacking else ()
    if len(counts) < 2:
        return _untested(records, "switch", *(missing or ("lifecycle cases that switch adapters",)))
    following = [record for record in switched if flag(record, "switch.follows")]
    verdict, where = decide(
        [facts(record) for record in following],
        [facts(record) for record in records if not flag(record, "switch.follows")],
    )
    most = [timing for record in switched if _count(record) == counts[-1] if (timing := timed_ms(record, "switch"))]
    slowest = max(most, key=lambda timing: timing.value, default=None)
    by_count = ", ".join(
        f"{span([median_ms(record, 'switch') for record in switched if _count(record) == count], 'ms')} with {count}"
        for count in counts
    )
    refused = len(records) - len(switched)
    return Finding(
        verdict,
        f"Outputs followed set_adapter at once in {len(following)} of {len(switched)} cases. A switch took {by_count} "
        "adapters beside the first (processes apart, not timed in turn)."
        + (f" PEFT refused a second adapter in {refused} more." if refused else ""),
        effect=slowest.value if slowest else None,
        ci95=slowest.ci95 if slowest else None,
        n=slowest.n if slowest else len(switched),
        condition=where,
        evidence=keys(records),
        missing=missing,
        rows=tuple(
            {
                "case": name,
                "adapters": _count(record),
                "layers": record.proof.adapter_modules if record.proof is not None else None,
                "outputs follow": flag(record, "switch.follows"),
                "switch ms": timing.value if (timing := timed_ms(record, "switch")) else None,
                "low ms": timing.low if timing else None,
                "high ms": timing.high if timing else None,
            }
            for record, name in zip(switched, labels(switched, "adapter_count"), strict=True)
        ),
    )


ADAPTERS_SWITCH = Claim(
    id="adapters-switch",
    chapter="7",
    title="set_adapter switches",
    hypothesis="set_adapter makes another adapter the active one, and the next outputs are that one's.",
    method="Every adapter is made active in turn and its logits are compared with those that it gives alone and with "
    "those from before the switch; a switch is timed with 1, 8, 32 and 64 adapters beside the first.",
    refuted_by="Outputs after a switch that are not the chosen adapter's.",
    threshold=None,
    threshold_text="outputs are the chosen adapter's after every switch; its time decides nothing",
    unit="ms a switch, with the most adapters",
    test=_test_switch,
    figure=Figure(
        "lines",
        x="adapters",
        y="switch ms",
        series="case",
        low="low ms",
        high="high ms",
        x_label="adapters beside the first",
        y_label="set_adapter, ms",
        log_x=True,
    ),
    cause=f"{_ONE_WITH_BIAS} BaseTunerLayer.set_adapter in peft/tuners/tuners_utils.py sets requires_grad on A and B "
    "of every adapter in every layer, not of two alone: a switch takes longer the more there are.",
    reads="outputs",
)
