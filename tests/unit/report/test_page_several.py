"""A report of two cards: no table, summary or caption has numbers of both, and each says whose they are."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from report_material import claim

from lorabench.analysis.claims.claim import Claim, Figure, Finding
from lorabench.analysis.claims.evidence import Evidence
from lorabench.analysis.claims.judging import judge
from lorabench.cli.report import _summary
from lorabench.environment import Environment, EnvironmentDevice
from lorabench.record import Memory, Record, RecordDevice, RecordError, Timing
from lorabench.report.page.estimated import Strip
from lorabench.report.page.estimates_figure import draw_estimates
from lorabench.report.page.material import gather
from lorabench.report.page.roofs import roofs
from lorabench.report.page.view import View, view
from lorabench.report.page.writer import write_report
from lorabench.results import Results

H100, H200 = "NVIDIA H100 80GB HBM3", "NVIDIA H200"
NASTY = "<script>alert('owned')</script>"
METHODS = ("accelerate_weights", "accelerate_training", "memory_tracker", "arithmetic")


@dataclass(frozen=True)
class Card:
    """Its numbers are its own: ``digit`` repeats in all of its bytes and times, and in none of the other's.

    ``off_bytes`` is how much too much is predicted.
    """

    name: str
    digit: int
    off_bytes: int
    timed_s: float
    sizes: tuple[int, ...] = (1, 2, 4)

    @property
    def byte_count(self) -> int:
        return self.digit * 1_111_111_111

    @property
    def median_s(self) -> float:
        return self.digit * 1.1111e-2


FIRST, SECOND = Card(H100, 3, 10_000_000, 1.5), Card(H200, 4, 40_000_000, 0.5, sizes=(1, 2))


def effect(evidence: Evidence) -> Finding:
    """The peak of batch 1, with a row for it: a number that tells the cards apart."""
    [record] = [one for one in evidence.records if one.case["batch_size"] == 1]
    assert record.memory is not None
    peak = record.memory.peak_allocated_bytes
    return Finding("supported", f"{peak} B.", effect=peak, evidence=(record.key,), rows=({"x": 1, "y_bytes": peak},))


def needs_batch_4(evidence: Evidence) -> Finding:
    there = any(one.case["batch_size"] == 4 for one in evidence.records)
    return Finding("refuted", "It fails.") if there else Finding("not tested", "The records lack batch 4.")


CLAIMS = [
    # The id is that of a claim about bytes, so that it is judged on predictions too.
    replace(claim("rank-sets-width", "2", "A", unit="bytes", figure=Figure("bars", "x", "y_bytes")), test=effect),
    replace(claim("b", "3.1", "B"), test=needs_batch_4),
]


@pytest.fixture
def results(make_record, environment) -> Callable[..., Results]:
    """Of each card measured and predicted cases, one of them shaky and slowed down, and one that did not end."""

    def make(*cards: Card) -> Results:
        environments: dict[str, Environment] = {}
        records: list[Record] = []
        for card in cards:
            for kind in ("cuda", "fake"):
                device = EnvironmentDevice(kind, card.name, 80 << 30)  # type: ignore[arg-type]
                one = replace(environment, id=f"{kind}{card.digit}", device=device)
                environments[one.id] = one
            records += _records(card, make_record)
        return Results(environments, records, [], Path("results/fresh.jsonl"))

    return make


def _records(card: Card, make_record: Callable[..., Record]) -> Iterator[Record]:
    for size in card.sizes:
        case = {"batch_size": size, "axes": (("batch_size", size),)}
        timing = Timing((card.median_s,) * 3, card.median_s, (card.median_s,) * 2, size == 2, "drift")
        real = make_record(
            case=case,
            environment=f"cuda{card.digit}",
            device=RecordDevice("cuda", card.name),
            wall_s=2.5,
            memory=Memory(card.byte_count, card.byte_count, card.byte_count, card.byte_count),
            latency={"step": timing},
            observations={
                "stages_s": {"timing": card.timed_s},
                "work": {"step": {"flops": {"bf16": card.digit * 1_111_000_000}, "moved_bytes": 1_000}},
                "ceilings": {"copy": card.digit * 1.111e12, "bf16": card.digit * 1.111e12},
                **({"warnings": ["the GPU was slowed down"]} if size == 2 else {}),
            },
        )
        yield real
        yield replace(
            real,
            environment=f"fake{card.digit}",
            source="predicted",
            device=RecordDevice("fake", card.name),
            memory=Memory(*[card.byte_count + card.off_bytes] * 4),
            latency={},
            observations={
                "estimates": {method: {"peak_bytes": card.byte_count // 2} for method in METHODS}
                | {"memory_tracker": {"absent": "a fault"}}
            },
        )
    yield make_record(
        case={"batch_size": 64, "axes": (("batch_size", 64),)},
        environment=f"cuda{card.digit}",
        device=RecordDevice("cuda", card.name),
        status="oom",
        error=RecordError("OutOfMemoryError", f"asked for {card.byte_count} B", "backward"),
        proof=None,
        memory=None,
        latency={},
        tokens_per_s=None,
    )


class Drawn:
    """The same figure for all: what is drawn is not looked at here."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def claim(self, name: str, *_: Any) -> None:
        self.names.append(name)

    scenario = estimates = claim

    def drawn(self) -> dict[str, Any]:
        return dict.fromkeys(self.names, draw_estimates("one", [Strip("a", (0.1,), ())]))


@pytest.fixture
def write(tmp_path, results) -> Callable[..., tuple[View, Path]]:
    def write(*cards: Card, claims: list[Claim] = CLAIMS) -> tuple[View, Path]:
        out = tmp_path / "report"
        shown = write_report([results(*cards)], lambda files: judge(files, claims), out, Drawn())  # type: ignore[arg-type]
        return shown, out

    return write


@dataclass(frozen=True)
class Part:
    """A table, or a line of prose. ``over`` is what a reader sees above it: headings, or the name of a table."""

    kind: str
    over: str
    text: str


def markdown_parts(text: str) -> list[Part]:
    parts: list[Part] = []
    over = ""
    for block in re.split(r"\n\n+", text.replace("\\", "")):
        if block.startswith("|"):
            parts.append(Part("table", over, " ".join(block.replace("|", " ").split())))
        elif block.startswith(("#", "**")):
            # A verdict stands over the table behind it.
            over = block
        parts += [Part("line", over, line) for line in block.splitlines() if not line.startswith("|")]
    return parts


class PageParts(HTMLParser):
    """The same of a page, without its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.parts: list[Part] = []
        self._name = ""
        self._kind = "line"
        self._text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "style", "table"):
            self._end(tag)
        elif tag in ("p", "li", "dd", "section", "summary"):
            self._end(self._kind)
        elif dict(attrs).get("role") == "region":
            self._name = dict(attrs)["aria-label"] or ""

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style", "table"):
            self._end("line")
        elif tag in ("p", "li", "dd", "h1", "h2", "h3", "h4"):
            self._end(self._kind)

    def handle_data(self, data: str) -> None:
        self._text.append(data)
        if self._kind == "table":
            self._text.append(" ")

    def _end(self, following: str) -> None:
        text = " ".join("".join(self._text).split())
        if text and self._kind in ("line", "table"):
            self.parts.append(Part(self._kind, self._name if self._kind == "table" else "", text))
        self._kind, self._text = following, []


def parts_of(out: Path, form: str) -> list[Part]:
    text = (out / form).read_text()
    return markdown_parts(text) if form == "report.md" else PageParts(text).parts


def whose(part: Part) -> set[str]:
    """The cards whose numbers are in it: three of their digits in a row, whatever the unit."""
    plain = part.text.replace(",", "").replace(".", "")
    return {card.name for card in (FIRST, SECOND) if str(card.digit) * 3 in plain}


FORMS = ["report.md", "index.html"]


@pytest.mark.parametrize("form", FORMS)
def test_no_table_has_numbers_of_two_cards_and_each_says_whose_they_are(write, form):
    _, out = write(FIRST, SECOND)
    tables = [part for part in parts_of(out, form) if part.kind == "table" and whose(part)]
    # One list of what did not end ok, with a column for the device.
    numbered = [part for part in tables if "OutOfMemoryError" not in part.text]
    for part in numbered:
        [name] = whose(part)
        assert set(re.findall(f"{H100}|{H200}", part.over + part.text)) == {name}, part
    # All numbers predicted, all estimates, ceilings, phases; and what is behind the claim, measured and predicted.
    # (That of claims about bytes has verdicts alone.)
    assert [sum(whose(part) == {name} for part in numbered) for name in (H100, H200)] == [6, 6]


@pytest.mark.parametrize("form", FORMS)
def test_no_line_has_numbers_of_two_cards_unless_it_names_both(write, form):
    _, out = write(FIRST, SECOND)
    for part in parts_of(out, form):
        if part.kind == "line" and len(whose(part)) > 1:
            assert H100 in part.text, part
            assert H200 in part.text, part


@pytest.mark.parametrize("form", FORMS)
def test_every_summary_is_of_one_card(write, form):
    _, out = write(FIRST, SECOND)
    text = " ".join(f"{part.text} |" for part in parts_of(out, form))
    assert f"60% went into timed and warm-up steps on {H100}, 20% on {H200}." in text
    # Too much was predicted on either: 0.3%, and 0.9%.
    tables = [part.text for part in parts_of(out, form) if part.kind == "table"]
    dense = r"peak allocated fp32, fp16, bf16 (\d) ([\d.]+) ([\d.]+)"
    assert [found for text in tables for found in re.findall(dense, text)] == [("3", "0.3", "0.3"), ("2", "0.9", "0.9")]
    ours = r"lorabench (\d) (\d) ([\d.]+)"
    assert [found for text in tables for found in re.findall(ours, text)] == [("3", "0", "0.3"), ("2", "0", "0.9")]
    assert f"No estimate in 3 cases on {H100}: a fault. No estimate in 2 cases on {H200}: a fault." in text


@pytest.mark.parametrize("form", FORMS)
def test_what_is_untested_on_one_card_is_not_taken_from_the_other(write, form):
    shown, out = write(FIRST, SECOND)
    assert [(one.device, [card.primary.place for card in one.cards]) for one in shown.glances] == [
        (H100, [H100, H100]),
        (H200, [H200, H200]),
    ]
    assert [{name: count for name, count in one.counts.items() if count} for one in shown.glances] == [
        {"supported": 1, "refuted": 1},
        {"supported": 1, "not tested": 1},
    ]
    assert _summary(shown)[:2] == [
        f"{H100}: 2 claims: 1 supported, 1 refuted",
        f"{H200}: 2 claims: 1 supported, 1 not tested",
    ]
    headings = [part.text for part in parts_of(out, form)] if form == "index.html" else (out / form).read_text()
    assert f"On {H100}" in headings
    assert f"On {H200}" in headings


@pytest.mark.parametrize("form", FORMS)
def test_what_is_said_about_cases_names_their_card(write, form):
    _, out = write(FIRST, SECOND)
    parts = parts_of(out, form)
    lines = [part.text for part in parts if part.kind == "line"]
    for name, digit in ((H100, 3), (H200, 4)):
        assert any(line.endswith(f"ranks[batch_size=2] on {name}: step: drift") for line in lines)
        assert any(line.endswith(f"ranks[batch_size=2] on {name}: the GPU was slowed down") for line in lines)
        [table] = [part.text for part in parts if part.kind == "table" and "OutOfMemoryError" in part.text]
        bytes_ = digit * 1_111_111_111
        assert f"ranks[batch_size=64] {name} backward OutOfMemoryError: asked for {bytes_} B" in table
    counted = " ".join(lines)
    assert f"(1 on {H100}, 1 on {H200})" in counted
    assert f"2 of 5 timed records have unstable times (1 on {H100}, 1 on {H200})" in counted


def test_each_cards_estimates_have_a_figure_whose_caption_names_it(write):
    shown, out = write(FIRST, SECOND)
    assert [(one.device, one.figure) for one in shown.estimated] == [(H100, "estimates"), (H200, "estimates-2")]
    for one in shown.estimated:
        assert one.description == f"Error of each method's peak on {one.device}, one mark a case"
        assert f"![{one.description}](figures/{one.figure}.svg)" in (out / "report.md").read_text()
        assert (out / "figures" / f"{one.figure}.png").exists()
    errors = [strip.dense for one in shown.estimated for strip in one.strips if strip.name == "lorabench"]
    assert errors == [pytest.approx((0.003,) * 3), pytest.approx((0.009,) * 2)]


def test_every_file_of_numbers_names_the_device(write):
    _, out = write(FIRST, SECOND)
    for name, column in (
        *((f"{name}.csv", "device") for name in ("predictions", "estimates", "roofline")),
        ("records.csv", "device_name"),
    ):
        lines = list(csv.DictReader(io.StringIO((out / name).read_text())))
        assert {line[column] for line in lines} == {H100, H200}
    scopes = [line["scope"] for line in csv.DictReader(io.StringIO((out / "claims.csv").read_text()))]
    assert all(H100 in scope or H200 in scope for scope in scopes)


def test_as_many_phases_of_each_card_are_shown_as_of_one_alone(results):
    sizes = tuple(range(100, 180))
    found = roofs(gather([results(replace(FIRST, sizes=sizes), replace(SECOND, sizes=sizes))], []))
    assert [(one.device, len(one.detail.rows), one.detail.left_out) for one in found] == [(H100, 80, 0), (H200, 80, 0)]


def test_a_card_whose_work_was_not_counted_is_named_beside_one_whose_was(results):
    found = results(FIRST, SECOND)
    bare = [replace(record, observations={}) if record.device.name == H200 else record for record in found.records]
    first, second = roofs(gather([replace(found, records=bare)], []))
    assert (first.device, len(first.roofs), first.lacking) == (H100, 3, ())
    assert (second.device, second.roofs) == (H200, ())
    assert second.lacking == ("2 of 2 timed phases have no limit: their work was not counted.",)
    none = [replace(record, observations={}) for record in found.records]
    assert roofs(gather([replace(found, records=none)], [])) == ()


def test_figures_that_there_are_too_many_of_are_counted_for_each_card(results):
    found = results(FIRST, SECOND)
    many = [
        replace(record, scenario=f"s{number:02}", key=f"{record.key}-{number}")
        for number in range(12)
        for record in found.records
    ]
    shown = view(gather([replace(found, records=many)], []))
    # Twelve scenarios, each measured and predicted on two cards: the last predictions have no room.
    assert (len(shown.panels), shown.panels_left_out) == (40, 8)
    assert shown.panels_left_out_on == f"4 on {H100} (predicted), 4 on {H200} (predicted)"


def test_the_name_of_a_second_device_is_text(write):
    _, out = write(FIRST, replace(SECOND, name=NASTY))
    page = (out / "index.html").read_text()
    assert NASTY not in page
    assert f"Table: error of each method on {NASTY}" in {part.over for part in PageParts(page).parts}
    assert NASTY not in (out / "report.md").read_text()


def test_both_pages_say_once_how_claims_about_bytes_are_judged(write):
    _, out = write(FIRST, SECOND)
    for name in ("index.html", "report.md"):
        text = " ".join((out / name).read_text().replace("\\", "").split())
        assert text.count("which no prediction has, are the measured ones on both sides: a verdict") == 1
    assert (out / "predictions.csv").is_file()


def test_of_one_card_nothing_is_told_apart(write):
    shown, out = write(FIRST)
    assert not shown.several
    sections: tuple[Any, ...] = (*shown.glances, *shown.beside, *shown.agreed, *shown.estimated, *shown.roofs)
    assert [one.device for one in (*sections, *shown.timed)] == [None] * 6
    headings = [line for line in (out / "report.md").read_text().splitlines() if line.startswith("##")]
    # Of its machines and of its figures alone.
    assert [line for line in headings if H100 in line] == [
        f"### ranks on {H100}",
        f"### ranks on {H100} (predicted)",
        f"### {H100}",
        f"### {H100} (predicted)",
    ]
    said = (out / "report.md").read_text().replace("\\", "")
    assert "60% went into timed and warm-up steps." in said
    assert "- ranks[batch_size=2]: step: drift" in said
    assert "| status | case | phase | reason |" in said
    assert "one mark a case](figures/estimates.svg)" in said
    assert "### Claims about bytes, judged on either side\n\nEach claim" in said
