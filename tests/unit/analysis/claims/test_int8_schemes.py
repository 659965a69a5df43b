from __future__ import annotations

from dataclasses import replace

from lives import evidence, life

from lorabench.analysis.claims.evidence import Evidence, Scope
from lorabench.analysis.claims.int8_schemes import INT8_SCHEMES


def schemes(make_record, *, differing=0, largest=0, zero_point=(0.004, 0.005), device="cpu"):
    errors = [
        {"tensor": tensor, "scheme": scheme, "axis": axis, "relative_error": error, "bytes": 1000}
        for tensor in ("weights", "activations", "skewed")
        for axis, zero in zip(("row", "tensor"), zero_point, strict=True)
        for scheme, error in (("absmax", 0.008), ("zero-point", zero))
    ]
    codes = {"compared": 4000, "differing": differing, "largest_difference": largest}
    record = life(make_record, quantization="int8", weights="pretrained", model="smollm2-135m")
    record = replace(record, observations={"schemes": {"absmax_codes": codes, "errors": errors}})
    return Evidence(Scope(device, "Imaginary device", "measured"), (record,))


def test_schemes_supported_where_codes_are_equal_and_zero_point_loses_less(make_record):
    finding = INT8_SCHEMES.test(schemes(make_record))
    assert (finding.verdict, finding.effect, finding.n) == ("supported", 0.0, 4000)
    assert "zero point errs by 0.40% where absolute maximum errs by 0.80%" in finding.summary
    assert len(finding.rows) == 12


def test_schemes_on_cuda_may_be_one_code_apart_and_on_a_cpu_not(make_record):
    assert INT8_SCHEMES.test(schemes(make_record, differing=9, largest=1, device="cuda")).verdict == "supported"
    assert INT8_SCHEMES.test(schemes(make_record, differing=9, largest=2, device="cuda")).verdict == "refuted"
    finding = INT8_SCHEMES.test(schemes(make_record, differing=9, largest=1))
    assert (finding.verdict, finding.effect) == ("refuted", 9 / 4000)


def test_schemes_refuted_and_conditional_by_the_error_on_skewed_values(make_record):
    assert INT8_SCHEMES.test(schemes(make_record, zero_point=(0.009, 0.009))).verdict == "refuted"
    finding = INT8_SCHEMES.test(schemes(make_record, zero_point=(0.004, 0.009)))
    assert finding.verdict == "conditional"
    assert finding.condition == "with one range for each row; not for each tensor"


def test_schemes_not_tested_without_their_observations(make_record):
    finding = INT8_SCHEMES.test(evidence(life(make_record, quantization="int8")))
    assert finding.verdict == "not tested"
    assert "schemes" in finding.missing[0]
