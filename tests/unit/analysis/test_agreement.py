"""Claims on predicted bytes beside those on measured ones: which records meet, and what counts as agreement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lorabench.analysis.agreement import BYTE_CLAIMS, Agreement, agreements
from lorabench.analysis.claims.claim import Claim, Finding
from lorabench.analysis.claims.evidence import Evidence, Scope, keys
from lorabench.analysis.claims.timing import in_rounds
from lorabench.record import Memory, RecordDevice

CARD = "NVIDIA H100 80GB HBM3"
MEASURED, PREDICTED = Scope("cuda", CARD, "measured"), Scope("fake", CARD, "predicted")
NAME = "rank-sets-width"


def claim(test: Callable[[Evidence], Finding], name: str = NAME) -> Claim:
    return Claim(name, "2", "A", "h", "m", "r", 1.0, "t", "bytes", test)


def dynamic_is_small(evidence: Evidence) -> Finding:
    """Supported where every record's dynamic bytes are below 100."""
    if not evidence.records:
        return Finding("not tested", "")
    largest = max((one.memory.dynamic_bytes or 0) if one.memory else 0 for one in evidence.records)
    verdict: Any = "supported" if largest < 100 else "refuted"
    return Finding(verdict, "", effect=largest, n=len(evidence.records), evidence=keys(evidence.records))


@pytest.fixture
def sides(make_record):
    """Measured and predicted evidence of cases of these batch sizes, with dynamic bytes each."""

    def make(measured: dict[int, int], predicted: dict[int, int]) -> list[Evidence]:
        def records(dynamic: dict[int, int], source: str, kind: str) -> tuple[Any, ...]:
            return tuple(
                make_record(
                    case={"batch_size": size},
                    source=source,
                    device=RecordDevice(kind, CARD),  # type: ignore[arg-type]
                    memory=Memory(1000, held, 1000 + held),
                    **({"latency": {}} if source == "predicted" else {}),
                )
                for size, held in dynamic.items()
            )

        return [
            Evidence(MEASURED, records(measured, "measured", "cuda")),
            Evidence(PREDICTED, records(predicted, "predicted", "fake")),
        ]

    return make


def test_both_sides_are_judged_on_the_cases_that_they_share(sides):
    # Batch 4 alone would refute the claim as measured, batch 8 as predicted: neither has its like.
    [one] = agreements(sides({1: 10, 2: 20, 4: 500}, {1: 11, 2: 21, 8: 500}), [claim(dynamic_is_small)])
    assert (one.scope, one.cases, one.outcome) == (MEASURED, 2, "agrees")
    assert (one.measured.effect, one.predicted.effect) == (20, 21)
    assert (one.measured.n, one.predicted.n) == (2, 2)


def test_another_verdict_differs(sides):
    [one] = agreements(sides({1: 99}, {1: 100}), [claim(dynamic_is_small)])
    assert (one.outcome, one.measured.verdict, one.predicted.verdict) == ("differs", "supported", "refuted")


@pytest.mark.parametrize(
    ("measured", "predicted", "outcome"),
    [
        (("conditional", "under bf16"), ("conditional", "under bf16"), "agrees"),
        (("conditional", "under bf16"), ("conditional", "under fp16"), "differs in its condition"),
        (("conditional", "under bf16"), ("supported", None), "differs"),
        (("not tested", None), ("not tested", None), "not tested"),
        (("not tested", None), ("supported", None), "differs"),
    ],
)
def test_what_counts_as_agreement(measured, predicted, outcome):
    real, told = (Finding(verdict, "", condition=condition) for verdict, condition in (measured, predicted))
    assert Agreement(claim(dynamic_is_small), MEASURED, 1, real, told).outcome == outcome


def test_numbers_that_are_others_are_counted_where_the_verdict_is_the_same():
    def found(summary: str, *values: int) -> Finding:
        return Finding("supported", summary, rows=tuple({"bytes": value} for value in values))

    one = Agreement(claim(dynamic_is_small), MEASURED, 3, found("1 to 3", 1, 2, 3), found("1 to 4", 1, 2, 4))
    assert (one.outcome, one.other_rows, one.same_words) == ("agrees", 1, False)
    alike = Agreement(claim(dynamic_is_small), MEASURED, 3, found("1 to 3", 1, 2, 3), found("1 to 3", 1, 2, 3))
    assert (alike.other_rows, alike.same_words) == (0, True)
    # A row that one side lacks is another.
    fewer = Agreement(claim(dynamic_is_small), MEASURED, 3, found("1 to 3", 1, 2, 3), found("1 to 3", 1, 2))
    assert fewer.other_rows == 1


def test_claims_that_are_not_about_bytes_are_left_alone(sides):
    assert agreements(sides({1: 10}, {1: 10}), [claim(dynamic_is_small, "starts-as-identity")]) == []
    assert "starts-as-identity" not in BYTE_CLAIMS


def test_without_a_case_on_both_sides_there_is_nothing_to_say(sides):
    both = [claim(dynamic_is_small)]
    assert agreements(sides({1: 10}, {2: 10}), both) == []
    assert agreements(sides({1: 10}, {})[:1], both) == []
    measured, predicted = sides({1: 10}, {1: 10})
    on_cpu = Evidence(replace(MEASURED, device_type="cpu"), measured.records)
    assert agreements([on_cpu, predicted], both) == []
    other_card = [replace(one, device=RecordDevice("fake", "NVIDIA L4")) for one in predicted.records]
    assert agreements([measured, Evidence(PREDICTED, tuple(other_card))], both) == []


def test_of_several_predictions_the_last_counts(sides):
    measured, first = sides({1: 10}, {1: 500})
    second = sides({}, {1: 20})[1]
    newer = Evidence(replace(PREDICTED, versions=(("torch", "9"),)), second.records)
    [one] = agreements([first, newer, measured], [claim(dynamic_is_small)])
    assert one.predicted.effect == 20


def test_predicted_bytes_come_with_the_measured_times_and_every_repeat(sides):
    def needs_times(evidence: Evidence) -> Finding:
        timed = [one for one in evidence.records if "step" in one.latency and one.group == "g"]
        held = {one.memory.dynamic_bytes for one in evidence.records if one.memory}
        return Finding(
            "supported",
            str(sorted((one.source, one.repeat) for one in timed)),
            effect=sum(held),
            evidence=keys(evidence.records),
        )  # type: ignore[arg-type]

    measured, predicted = sides({1: 10}, {1: 20})
    [record] = measured.records
    rounds = tuple(replace(record, group="g", repeat=repeat) for repeat in (0, 1))
    [one] = agreements([Evidence(MEASURED, rounds), predicted], [claim(needs_times)])
    assert (one.cases, one.predicted.effect) == (1, 20)
    assert one.measured.summary == "[('measured', 0), ('measured', 1)]"
    assert one.predicted.summary == "[('predicted', 0), ('predicted', 1)]"


def test_predicted_bytes_come_with_the_measured_losses(sides):
    def needs_losses(evidence: Evidence) -> Finding:
        told = [(one.source, one.observations.get("losses")) for one in evidence.records]
        return Finding("supported", str(told), evidence=keys(evidence.records))

    measured, predicted = sides({1: 10}, {1: 20})
    [record] = measured.records
    learned = replace(record, observations={**record.observations, "losses": [2.0, 1.0]})
    [one] = agreements([Evidence(MEASURED, (learned,)), predicted], [claim(needs_losses, "int8-preparation")])
    assert one.measured.summary == "[('measured', [2.0, 1.0])]"
    assert one.predicted.summary == "[('predicted', [2.0, 1.0])]"


def unloaded(evidence: Evidence) -> Finding:
    lives = [one.observations["lifecycle"] for one in evidence.records]
    told = [life["unload"] for life in lives if "unload" in life]
    return Finding("supported" if told else "not tested", str(told), evidence=keys(evidence.records))


@pytest.mark.parametrize("told", [{"bytes_over_base": 7, "lora_modules_left": 0}, None])
def test_a_lifecycle_has_the_predicted_bytes_and_the_measured_outputs(sides, told):
    measured, predicted = sides({1: 10}, {1: 20})
    [real], [fake] = measured.records, predicted.records
    unload = {"bytes_over_base": 0, "lora_modules_left": 0, "outputs_equal_merged": True}
    life = {"unload": unload, "identity": {"equal_before_step": True}}
    sides_ = (
        Evidence(MEASURED, (replace(real, observations={"lifecycle": life}),)),
        Evidence(PREDICTED, (replace(fake, observations={"lifecycle": {"unload": told}} if told else {}),)),
    )
    [one] = agreements(sides_, [claim(unloaded, "merge-and-unload")])
    if told:
        assert one.measured.summary == str([unload])
        assert one.predicted.summary == str([{"outputs_equal_merged": True, **told}])
    else:
        # An earlier version's prediction tells none: measured bytes must not agree with themselves.
        assert one.outcome == "not tested"


@pytest.mark.parametrize("odd", [None, 3, [], "text", {"unload": 3}, {"adapters": [1]}])
def test_a_lifecycle_that_is_nothing_of_the_kind_is_no_fault(sides, odd):
    measured, predicted = sides({1: 10}, {1: 20})
    for real, fake in ((odd, {"unload": {"bytes_over_base": 0}}), ({"unload": {}}, odd), (odd, odd)):
        both = (
            Evidence(MEASURED, tuple(replace(one, observations={"lifecycle": real}) for one in measured.records)),
            Evidence(PREDICTED, tuple(replace(one, observations={"lifecycle": fake}) for one in predicted.records)),
        )
        [one] = agreements(both, [claim(dynamic_is_small)])
        assert one.predicted.effect == 20


def test_times_are_read_as_the_measured_ones_are(sides):
    """Turns of one step, of arms of one process: without being told so, four samples would be one round."""

    def in_turn(evidence: Evidence) -> Finding:
        [timed] = in_rounds(evidence.records, "step")
        return Finding("supported", "", n=len(timed.rounds_s))

    measured, predicted = sides({1: 10}, {1: 20})
    [record] = measured.records
    step = replace(record.latency["step"], samples_s=(0.1, 0.2, 0.3, 0.4))
    told = replace(record, latency={"step": step}, observations={**record.observations, "turn_steps": 1})
    [one] = agreements([Evidence(MEASURED, (told,)), predicted], [claim(in_turn)])
    assert (one.measured.n, one.predicted.n) == (4, 4)
