"""Sections on what people use instead of a prediction, and on claims judged by predicted bytes: all forms say it."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest
from report_material import GPU, claim

from lorabench.analysis.agreement import Agreement
from lorabench.analysis.claims.claim import Finding, Verdict
from lorabench.record import Memory, RecordDevice
from lorabench.report.page.agreeing import agreement_table, told
from lorabench.report.page.cards import cards
from lorabench.report.page.estimated import LEFT_OUT, NAMES, Absent, Strip, estimated, estimates_csv
from lorabench.report.page.estimated import told as told_of_methods
from lorabench.report.page.estimates_figure import draw_estimates
from lorabench.report.page.material import Material, gather
from lorabench.report.page.tables import claims_csv
from lorabench.results import Results

CARD = "NVIDIA H100 80GB HBM3"
HOLDS, FAILS = Finding("supported", "It holds.", effect=0.5), Finding("refuted", "It does not.", effect=0.9)
UNTESTED = Finding("not tested", "")


@pytest.fixture
def material(make_record, environment) -> Material:
    """A dense case with all estimates, an int8 one that lacks two, and one predicted without any."""
    number = {"peak_bytes": 150}
    all_there = dict.fromkeys(("accelerate_weights", "accelerate_training", "memory_tracker", "arithmetic"), number)
    lacking = {**all_there, "accelerate_training": {"absent": "none in int8"}, "memory_tracker": {"absent": "a fault"}}
    records = []
    for case, told_ in (
        ({}, {"estimates": all_there}),
        ({"quantization": "int8"}, {"estimates": lacking}),
        ({"batch_size": 9}, {}),
    ):
        real = make_record(case=case, device=RecordDevice("cuda", CARD), memory=Memory(50, 50, 100))
        device = RecordDevice("fake", CARD)
        records += [real, replace(real, source="predicted", device=device, observations=told_)]
    return gather([Results({environment.id: environment}, records)], [])


def test_a_row_a_method_and_a_row_a_case(material):
    [found] = estimated(material)
    assert (found.cases, found.without) == (2, 1)
    assert [row[0] for row in found.summary.rows] == list(NAMES.values())
    rows = {row[0]: row[1:4] for row in found.summary.rows}
    assert rows["lorabench"] == ("2", "0", "0")
    assert rows["MemTracker"] == ("1", "1", "50")
    assert len(found.detail.rows) == 2
    assert sum(row.count("–") for row in found.detail.rows) == 2  # noqa: RUF001


def test_every_method_says_what_it_leaves_out_and_why_it_is_absent(material):
    methods = told_of_methods(estimated(material))
    assert [method.left_out for method in methods] == list(LEFT_OUT.values())
    absent = {method.name: method.absent for method in methods}
    assert absent["MemTracker"] == (Absent("a fault", 1, None),)
    assert absent["accelerate, training"] == (Absent("none in int8", 1, None),)
    assert absent["lorabench"] == ()


def test_the_file_has_a_line_for_each_method_and_no_zero_for_what_is_absent(material):
    [found] = estimated(material)
    lines = list(csv.DictReader(io.StringIO(estimates_csv(found.estimates))))
    assert len(lines) == 10
    absent = [
        (line["method"], line["estimated_bytes"], line["error"], line["absent"]) for line in lines if line["absent"]
    ]
    assert absent == [("accelerate_training", "", "", "none in int8"), ("memory_tracker", "", "", "a fault")]
    assert {line["error"] for line in lines if line["method"] == "arithmetic"} == {"0.5"}


def test_without_estimates_there_is_no_section(material):
    bare = [replace(entry, record=replace(entry.record, observations={})) for entry in material.entries]
    assert estimated(replace(material, entries=tuple(bare))) == ()


@pytest.mark.parametrize(
    "strips",
    [
        [Strip("a", (0.0, 1e-5, -0.9), (3.5,)), Strip("b", (), (-0.01,))],
        [Strip("a", (0.0,), ())],
        [Strip("a", (), ())],
        [Strip("a", (250.0,), ())],
    ],
)
def test_the_figure_can_be_drawn_of_any_errors(strips):
    drawn = draw_estimates("estimates", strips)
    assert drawn.svg.startswith("<?xml")
    assert all(one.name in drawn.svg for one in strips)


def agreement(measured: Finding, predicted: Finding, cases: int = 3) -> Agreement:
    return Agreement(claim("a", "2", "A"), GPU, cases, measured, predicted)


@pytest.mark.parametrize(
    ("measured", "predicted", "heading", "said"),
    [
        (HOLDS, HOLDS, "Predicted agrees.", "the 3 cases that were predicted too give the same verdict"),
        (HOLDS, FAILS, "Predicted differs.", "supported as measured and refuted as predicted"),
        # The card's verdict rests on more cases than were predicted.
        (FAILS, FAILS, "Predicted agrees.", "refuted as measured and refuted as predicted"),
        (
            replace(HOLDS, verdict="conditional", condition="under bf16"),
            replace(HOLDS, verdict="conditional", condition="under fp16"),
            "Predicted differs in the condition.",
            "both are conditional, measured under bf16; predicted under fp16",
        ),
    ],
)
def test_a_card_says_whether_predicted_bytes_agree(measured, predicted, heading, said):
    one = agreement(measured, predicted)
    [card] = cards([Verdict(one.claim, GPU, HOLDS)], [one])
    assert card.primary.predicted is not None
    assert card.primary.predicted[0] == heading
    assert said in card.primary.predicted[1]


@pytest.mark.parametrize(
    ("summary", "rows", "cell", "said"),
    [
        ("It holds.", (1, 2), "all the same", "the same verdict; every number here is the same, too."),
        ("It holds.", (1, 3), "others in 1 of 2 rows", "1 of the table's 2 rows have others, the summary has none."),
        ("It is.", (1, 2), "others in the summary", "the same verdict; the summary has is for holds."),
        (
            *("It takes 3 bytes.", (1, 3), "others in the summary and others in 1 of 2 rows"),
            "the summary has takes 3 bytes for holds, and 1 of the table's 2 rows have others.",
        ),
    ],
)
def test_numbers_that_are_others_are_told(summary, rows, cell, said):
    """A verdict that rests on times is the same whatever the bytes are: the card's numbers tell."""
    real, fake = (tuple({"bytes": value} for value in values) for values in ((1, 2), rows))
    one = agreement(replace(HOLDS, rows=real), replace(HOLDS, summary=summary, rows=fake))
    found, sentence = agreement_table([one]), told(Verdict(one.claim, GPU, HOLDS), [one])
    assert found is not None
    assert sentence is not None
    assert cell in found.rows[0]
    assert sentence[1].endswith(said)


def test_a_verdict_that_the_correction_alone_made_another_is_the_same_on_either_side():
    """Agreement is told of findings before Holm's correction, which has the same p values on both sides."""
    before = replace(HOLDS, verdict="conditional", p_value=0.03, evidence=("k",))
    after = replace(before, verdict="inconclusive")
    one = agreement(before, before)
    same = told(Verdict(one.claim, GPU, after), [one])
    assert same is not None
    assert "give the same verdict" in same[1]
    # Of other cases the verdict may be another for its own reasons.
    more = told(Verdict(one.claim, GPU, replace(after, evidence=("k", "more"))), [one])
    assert more is not None
    assert "conditional as measured and conditional as predicted" in more[1]


def test_a_card_of_another_scope_or_without_cases_says_nothing():
    other = replace(GPU, device_name="NVIDIA L4")
    assert told(Verdict(claim("a", "2", "A"), other, HOLDS), [agreement(HOLDS, HOLDS)]) is None
    untested = agreement(UNTESTED, UNTESTED)
    assert told(Verdict(untested.claim, GPU, UNTESTED), [untested]) is None
    assert agreement_table([untested]) is None


def test_the_table_and_the_file_have_both_verdicts():
    one = agreement(HOLDS, FAILS)
    found = agreement_table([one])
    assert found is not None
    assert found.rows[0][:4] == ("A", "differs", "supported", "refuted")
    [line] = csv.DictReader(io.StringIO(claims_csv([Verdict(one.claim, GPU, HOLDS)], [one])))
    assert (line["predicted"], line["predicted_cases"]) == ("differs", "3")
    assert (line["predicted_verdict"], line["measured_verdict"]) == ("refuted", "supported")
