"""Which verdict stands in a card's head, how claims are grouped and counted."""

from __future__ import annotations

from dataclasses import replace

import pytest
from report_material import CPU, GPU, PREDICTED, claim, verdicts

from lorabench.analysis.claims.claim import Finding, Verdict
from lorabench.report.page.cards import Glance, cards, chapters, counts

FRESH_GPU = replace(GPU, committed=False)
OLD_CPU = replace(CPU, committed=True)
TESTED, UNTESTED = Finding("supported", "It holds."), Finding("not tested", "")


@pytest.mark.parametrize(
    ("given", "primary"),
    [
        ([(CPU, TESTED), (FRESH_GPU, TESTED), (PREDICTED, TESTED)], FRESH_GPU),
        ([(PREDICTED, TESTED), (CPU, TESTED)], CPU),
        ([(GPU, TESTED), (CPU, TESTED)], CPU),
        ([(GPU, TESTED), (PREDICTED, TESTED)], PREDICTED),
        ([(CPU, UNTESTED), (OLD_CPU, TESTED)], OLD_CPU),
        ([(CPU, UNTESTED), (PREDICTED, TESTED)], PREDICTED),
        ([(OLD_CPU, UNTESTED), (CPU, UNTESTED)], CPU),
    ],
)
def test_tested_before_untested_then_fresh_then_measured_then_gpu(given, primary):
    one = claim("a", "2", "A")
    (card,) = cards([Verdict(one, scope, finding) for scope, finding in given])
    assert card.primary.verdict.scope == primary
    assert len(card.others) == len(given) - 1


def test_models_are_those_of_evidence_that_was_judged():
    one = claim("a", "2", "A")
    models = ("llama-2-7b", "llama-tiny")
    tested, untested = (cards([Verdict(one, CPU, found, models)])[0].primary for found in (TESTED, UNTESTED))
    assert (tested.models, untested.models) == (models, ())


def test_a_card_for_each_claim_in_order():
    made = cards(verdicts())
    assert [card.claim.id for card in made] == list(dict.fromkeys(verdict.claim.id for verdict in verdicts()))


def test_counts_are_of_primary_verdicts_and_name_all_judgements():
    assert counts(cards(verdicts())) == {
        "supported": 2,
        "conditional": 1,
        "refuted": 1,
        "inconclusive": 1,
        "not tested": 1,
    }


@pytest.mark.parametrize(
    ("scopes", "device", "told"),
    [
        ([PREDICTED, GPU], None, True),
        ([PREDICTED, PREDICTED], None, False),
        ([PREDICTED, PREDICTED], "NVIDIA H100", True),
    ],
)
def test_predicted_verdicts_are_marked_unless_there_are_no_others(scopes, device, told):
    made = cards([Verdict(claim(name, "2", "A"), scope, TESTED) for name, scope in zip("ab", scopes, strict=True)])
    assert Glance(device, made).tells_predicted is told


def test_chapters_go_by_where_the_advice_is_given_last():
    grouped = {chapter.number: [card.claim.id for card in chapter.cards] for chapter in chapters(cards(verdicts()))}
    assert grouped["3"] == ["int8-cuts-static", "dynamic-follows-batch"]
    assert grouped["4"] == ["starts-as-identity", "merge-follows-mode"]
    assert list(grouped) == ["2", "3", "4", "6"]


def test_only_what_can_be_drawn_has_a_figure_and_each_a_name_of_its_own():
    made = {card.claim.id: card for card in cards(verdicts())}
    assert made["merge-follows-mode"].primary.figure is None
    static = made["int8-cuts-static"]
    names = [scoped.figure for scoped in (static.primary, *static.others)]
    assert names == ["claim-int8-cuts-static", "claim-int8-cuts-static-2", None]


def test_evidence_of_all_scopes_is_listed_once():
    one = claim("a", "2", "A")
    first, second = replace(TESTED, evidence=("k1", "k2")), replace(TESTED, evidence=("k2", "k3"))
    (card,) = cards([Verdict(one, CPU, first), Verdict(one, GPU, second)])
    assert card.evidence == ("k1", "k2", "k3")


@pytest.mark.parametrize(
    ("unit", "effect", "brief"),
    [
        ("ratio", "0.644 ×", "0.644 ×"),  # noqa: RUF001
        ("dynamic bytes with / without", "0.644", "0.644 ×"),  # noqa: RUF001
        ("% off the computed bytes", "0.644%", "0.644%"),
        ("largest difference of a logit", "0.644", None),
    ],
)
def test_at_a_glance_a_number_stands_only_where_it_can_be_understood(unit, effect, brief):
    (card,) = cards([Verdict(claim("a", "2", "A", unit=unit), CPU, replace(TESTED, effect=0.644))])
    assert (card.primary.effect, card.primary.brief) == (effect, brief)


def test_a_caveat_is_that_of_the_scopes_device():
    one = claim("a", "2", "A", caveat={"cpu": "GPUs differ."})
    on_cpu, on_gpu = (cards([Verdict(one, scope, TESTED)])[0].primary.caveat for scope in (CPU, GPU))
    assert (on_cpu, on_gpu) == ("GPUs differ.", None)


def test_what_is_missing_is_not_said_twice():
    finding = Finding("not tested", "The records lack int8 cases.", missing=("int8 cases", "a second seed"))
    assert cards([Verdict(claim("a", "2", "A"), CPU, finding)])[0].primary.missing == "a second seed"
