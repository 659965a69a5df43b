from __future__ import annotations

from dataclasses import replace

import pytest
from lives import evidence
from trainings import MIB, training

from lorabench.analysis.claims.caching import CACHE_CONFLICTS_WITH_CHECKPOINTING
from lorabench.record import RecordError

LOSSES = [3.0, 2.5, 2.25]


def pair(make_record, mode="reentrant", *, returned=False, losses=LOSSES, more=0, warnings=("cache is off",)):
    return [
        training(
            make_record,
            gradient_checkpointing=mode,
            use_cache=asked,
            dynamic=10 * MIB + (more if asked else 0),
            observations={
                "losses": losses if asked else LOSSES,
                "training": {
                    "cache": {
                        "asked": asked,
                        "returned": asked and returned,
                        "config_after": asked,
                        "warnings": list(warnings) if asked else [],
                    }
                },
            },
        )
        for asked in (False, True)
    ]


def test_refuted_where_the_libraries_switch_the_cache_off(make_record):
    plain = pair(make_record, "none", returned=True, more=MIB, warnings=())
    records = [*pair(make_record), *pair(make_record, "non-reentrant"), *plain]
    finding = CACHE_CONFLICTS_WITH_CHECKPOINTING.test(evidence(*records))
    assert (finding.verdict, finding.effect, finding.n) == ("refuted", 1.0, 2)
    assert 'warn: "cache is off"' in finding.summary
    assert "the cache adds 1 MiB to the 10 MiB of a step" in finding.summary
    assert [row["checkpointing"] for row in finding.rows] == ["reentrant", "non-reentrant", "none"]


@pytest.mark.parametrize(
    "changes",
    [{"returned": True}, {"losses": [3.0, 2.5, 2.5]}, {"losses": [3.0, 2.5, float("nan")]}, {"more": MIB}],
    ids=["cache", "losses", "not finite", "bytes"],
)
def test_supported_where_a_cache_stays_or_changes_something(make_record, changes):
    finding = CACHE_CONFLICTS_WITH_CHECKPOINTING.test(evidence(*pair(make_record, **changes)))
    assert finding.verdict == "supported"


@pytest.mark.parametrize(("apart", "verdict"), [(0.015, "refuted"), (0.025, "supported")])
def test_losses_may_scatter_as_runs_without_a_cache_do(make_record, apart, verdict):
    """A GPU's kernels add up in any order: two runs of one case differ."""
    [plain, _] = pair(make_record, "none")
    plain.observations["losses"] = [3.0, 2.5, 2.26]
    finding = CACHE_CONFLICTS_WITH_CHECKPOINTING.test(
        evidence(plain, *pair(make_record, losses=[3.0, 2.5, 2.25 + apart]))
    )
    assert finding.verdict == verdict
    assert finding.rows[0]["losses apart"] == pytest.approx(apart)
    assert finding.rows[0]["apart without cache"] == pytest.approx(0.01)


@pytest.mark.parametrize(("losses", "verdict"), [(LOSSES[:2], "refuted"), ([3.0, 2.6], "supported")])
def test_a_shorter_run_is_compared_as_far_as_it_goes(make_record, losses, verdict):
    finding = CACHE_CONFLICTS_WITH_CHECKPOINTING.test(evidence(*pair(make_record, losses=losses)))
    assert finding.verdict == verdict


@pytest.mark.parametrize(("losses", "verdict"), [([2.5, 2.25], "refuted"), ([2.5, 2.3], "supported")])
def test_losses_are_compared_step_by_step_wherever_they_begin(make_record, losses, verdict):
    off, on = pair(make_record, losses=losses)
    on.observations["losses_from_step"] = 1
    assert CACHE_CONFLICTS_WITH_CHECKPOINTING.test(evidence(off, on)).verdict == verdict


def test_conditional_where_one_mode_fails(make_record):
    failed = make_record(
        case={"use_cache": True, "gradient_checkpointing": "non-reentrant", "quantization": "fp32", "axes": ()},
        status="failed",
        error=RecordError("ValueError", "no cache here", "forward"),
        proof=None,
        memory=None,
        latency={},
    )
    finding = CACHE_CONFLICTS_WITH_CHECKPOINTING.test(evidence(*pair(make_record), others=[failed]))
    assert finding.verdict == "conditional"
    assert finding.condition == "with llama-tiny fp32 non-reentrant; not with llama-tiny fp32 reentrant"


def test_not_tested_without_the_cache_or_without_checkpointing(make_record):
    for records in (pair(make_record)[:1], pair(make_record, "none")):
        finding = CACHE_CONFLICTS_WITH_CHECKPOINTING.test(evidence(*records))
        assert finding.verdict == "not tested"
        assert "use_cache" in finding.missing[0]


def test_a_pair_of_one_process_counts_where_there_is_one(make_record):
    """The same case ran elsewhere, too, and its losses are others."""
    together = [replace(one, group="cache#1") for one in pair(make_record)]
    elsewhere = pair(make_record)[0]
    elsewhere.observations["losses"] = [9.0, 9.0, 9.0]
    finding = CACHE_CONFLICTS_WITH_CHECKPOINTING.test(evidence(*together, elsewhere))
    assert finding.verdict == "refuted"
    assert [row["losses apart"] for row in finding.rows] == [0.0]
    # Elsewhere is better than nowhere.
    finding = CACHE_CONFLICTS_WITH_CHECKPOINTING.test(evidence(elsewhere, replace(pair(make_record)[1], group="g")))
    assert [row["losses apart"] for row in finding.rows] == [pytest.approx(6.75)]


def test_each_case_counts_once_and_each_seed_by_itself(make_record):
    rounds = [replace(one, group="cache#1", repeat=repeat) for repeat in (0, 1) for one in pair(make_record)]
    seeds = [replace(one, group="cache#1", seed=1, case={**one.case, "seed": 1}) for one in pair(make_record)]
    plain = [pair(make_record, "none")[0], pair(make_record, "none")[0]]
    plain[1] = replace(plain[1], seed=1, case={**plain[1].case, "seed": 1})
    for one, loss in zip(plain, (2.26, 2.30), strict=True):
        one.observations["losses"] = [3.0, 2.5, loss]
    finding = CACHE_CONFLICTS_WITH_CHECKPOINTING.test(evidence(*rounds, *seeds, *plain))
    assert [row["apart without cache"] for row in finding.rows] == [pytest.approx(0.01), pytest.approx(0.05)]
