"""Limits against arithmetic done here; observations are not checked on reading, so anything may be in them."""

from __future__ import annotations

from typing import Any

import pytest

from lorabench.analysis.roofline import ceilings_of, rooflines, without_limit

CEILINGS = {"copy": 1e9, "bf16": 1e12, "fp32": 1e11}


def observed(flops: Any, moved_bytes: Any, ceilings: Any = CEILINGS) -> dict[str, Any]:
    return {"work": {"step": {"flops": flops, "moved_bytes": moved_bytes}}, "ceilings": ceilings}


def test_the_limit_is_the_longer_of_computing_and_moving(make_record):
    # The step of the record takes 11 ms.
    [roof] = rooflines([make_record(observations=observed({"bf16": 4_000_000_000, "fp32": 100_000_000}, 2_000_000))])
    assert roof.compute_s == pytest.approx(0.005)
    assert roof.memory_s == pytest.approx(0.002)
    assert roof.flops == 4_100_000_000
    assert (roof.bound, roof.limit_s, roof.share) == ("compute", pytest.approx(0.005), pytest.approx(5 / 11))
    [roof] = rooflines([make_record(observations=observed({"bf16": 4_000_000_000}, 8_000_000))])
    assert (roof.bound, roof.limit_s) == ("memory", pytest.approx(0.008))


def test_ceilings_are_those_of_the_environment_and_the_highest_of_them(make_record):
    slow, quick, other = {**CEILINGS, "copy": 5e8}, {"copy": 1e9}, {"copy": 9e9}
    records = [
        make_record(observations=observed({"bf16": 1000}, 1000, slow)),
        make_record(observations={"ceilings": quick}),
        make_record(environment="other", observations={"ceilings": other}),
    ]
    assert ceilings_of(records)[records[0].environment] == {**CEILINGS, "copy": 1e9}
    [roof] = rooflines(records)
    assert roof.memory_s == pytest.approx(1000 / 1e9)


@pytest.mark.parametrize(
    ("observations", "lack"),
    [
        ({}, "work"),
        ({"work": {"step": {"flops": {"bf16": 1}, "moved_bytes": 1}}}, "ceiling"),
        (observed({"int8": 1}, 1), "ceiling"),
        (observed({"bf16": 1}, None), "work"),
        (observed({"bf16": "many"}, 1), "work"),
        (observed({"bf16": True}, 1), "work"),
        (observed({"bf16": -1}, 1), "work"),
        (observed([], 1), "work"),
        (observed({"bf16": 1}, 1, []), "ceiling"),
        (observed({"bf16": 1}, 1, {"copy": 0, "bf16": 1}), "ceiling"),
        ({"work": [], "ceilings": CEILINGS}, "work"),
        ({"work": {"step": 3}, "ceilings": CEILINGS}, "work"),
        ({"work": {"forward": {"flops": {"bf16": 1}, "moved_bytes": 1}}, "ceilings": CEILINGS}, "work"),
    ],
)
def test_without_work_or_ceilings_there_is_no_limit(make_record, observations, lack):
    records = [make_record(observations=observations)]
    assert rooflines(records) == []
    assert without_limit(records) == {lack: 1}


def test_what_has_no_limit_is_counted_by_what_it_lacks(make_record):
    counted = observed({"bf16": 1}, 1)
    records = [
        make_record(observations=counted),
        make_record(observations={}),
        make_record(observations=counted | {"ceilings": {}}, environment="other"),
        make_record(observations={}, environment="other"),
    ]
    assert len(rooflines(records)) == 1
    assert without_limit(records) == {"work": 2, "ceiling": 1}
    assert without_limit(records[:1]) == {}


def test_a_case_that_did_not_end_ok_has_none(make_record):
    bad = make_record(status="invalid", observations=observed({"bf16": 1}, 1))
    assert (rooflines([bad]), without_limit([bad])) == ([], {})


def test_what_was_not_timed_lacks_nothing(make_record):
    assert without_limit([make_record(latency={}, observations={})]) == {}
