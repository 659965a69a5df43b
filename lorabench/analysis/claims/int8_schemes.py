"""By which scheme numbers are turned into 8 bits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lorabench.analysis.claims.claim import Claim, Figure, Finding, Judgement, not_tested
from lorabench.analysis.claims.evidence import Evidence, keys, observed
from lorabench.analysis.claims.words import listed
from lorabench.record import Record


def _schemes(evidence: Evidence) -> Finding:
    records = [record for record in evidence.records if _codes(record) is not None and _errors(record)]
    if not records:
        return not_tested("a lifecycle case in int8 with observed schemes")
    record = next((one for one in reversed(records) if one.case.get("weights") == "pretrained"), records[-1])
    codes, errors = _codes(record) or {}, _errors(record)
    is_cpu = evidence.scope.device_type == "cpu"
    differing, largest = codes["differing"], codes["largest_difference"]
    is_absmax = differing == 0 if is_cpu else largest <= 1
    skewed = {
        (str(one["scheme"]), str(one["axis"])): one["relative_error"] for one in errors if one["tensor"] == "skewed"
    }
    axes = [axis for axis in ("row", "tensor") if ("absmax", axis) in skewed and ("zero-point", axis) in skewed]
    if not axes:
        return not_tested("errors of both schemes on a skewed tensor", evidence=keys(records))
    better = [axis for axis in axes if skewed["zero-point", axis] < skewed["absmax", axis]]
    worse = [axis for axis in axes if axis not in better]
    verdict: Judgement = "supported" if not worse else "conditional" if better else "refuted"
    verdict = verdict if is_absmax else "refuted"
    axis = axes[0]
    return Finding(
        verdict,
        f"bitsandbytes' int8 codes differ from those of the absolute maximum in {differing:,} of "
        f"{codes['compared']:,}, by {largest} at most; it has no zero point. On skewed values zero point errs by "
        f"{100 * skewed['zero-point', axis]:.2f}% where absolute maximum errs by {100 * skewed['absmax', axis]:.2f}% "
        f"(by {axis}).",
        effect=differing / codes["compared"] if codes["compared"] else None,
        n=codes["compared"],
        condition=f"with one range for each {listed(better)}; not for each {listed(worse)}"
        if verdict == "conditional"
        else None,
        evidence=keys([record]),
        rows=tuple(_scheme_row(one) for one in errors),
    )


def _codes(record: Record) -> Mapping[str, int] | None:
    found = observed(record, "schemes.absmax_codes")
    names = ("compared", "differing", "largest_difference")
    is_whole = isinstance(found, Mapping) and all(isinstance(found.get(name), int) for name in names)
    return found if is_whole else None


def _errors(record: Record) -> list[Mapping[str, Any]]:
    found = observed(record, "schemes.errors")
    names = ("tensor", "scheme", "axis", "relative_error", "bytes")
    return [
        one
        for one in (found if isinstance(found, list | tuple) else ())
        if isinstance(one, Mapping)
        and all(name in one for name in names)
        and isinstance(one["relative_error"], int | float)
        and math.isfinite(one["relative_error"])
    ]


def _scheme_row(one: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "tensor": one["tensor"],
        "scheme": f"{one['scheme']}, by {one['axis']}",
        "error, %": 100 * one["relative_error"],
        "bytes": one["bytes"],
    }


INT8_SCHEMES = Claim(
    id="int8-schemes",
    chapter="3.3.1",
    title="Absolute maximum and zero point",
    hypothesis="Two schemes turn numbers into 8 bits: absolute maximum, which 8-bit loading uses, and zero point, "
    "which loses less where values are skewed.",
    method="Both schemes are written as references. bitsandbytes' codes are compared with those of the absolute "
    "maximum one by one; the error of each scheme (Frobenius norm, relative) is taken on weights, on "
    "activations and on skewed values, by row and by tensor.",
    refuted_by="Codes that are not those of the absolute maximum, or a zero point that loses as much on skewed values.",
    threshold=0.0,
    threshold_text="On a CPU no code may differ; on a GPU codes may be 1 apart, for its kernel divides approximately.",
    unit="share of codes that differ from the absolute maximum's",
    test=_schemes,
    figure=Figure("bars", x="tensor", y="error, %", series="scheme", x_label="", y_label="error after 8 bits, %"),
    then="from_pretrained(name, load_in_8bit=True)",
    now="from_pretrained(name, quantization_config=BitsAndBytesConfig(load_in_8bit=True))",
    cause="int8_vectorwise_quant in bitsandbytes/functional.py takes the absolute maximum of each row; no function of "
    "bitsandbytes has a zero point.",
    caveat={"cpu": "Only a GPU shows how its kernel's approximate division rounds."},
    reads="values to quantize",
)
