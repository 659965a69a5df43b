"""README's table of findings beside the committed report that it links to: the same verdicts, no number of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from documents import ROOT, anchor

REPORT = (ROOT / "reports" / "h200" / "report.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| \[.+?\]\(reports/h200/report\.md#(.+?)\) \| (.+?) \| (.+) \|$", re.MULTILINE)
ROWS = ROW.findall((ROOT / "README.md").read_text(encoding="utf-8"))
VERDICT = re.compile(r"^\*\*(.+?)\*\* on NVIDIA H200 \(committed", re.MULTILINE)
CARDS = {anchor(part.partition("\n")[0]): part for part in REPORT.split("\n### ")[1:] if VERDICT.search(part)}
NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?")
INTERVAL = re.compile(rf"({NUMBER.pattern})[^\d\[]*\\\[\D?({NUMBER.pattern}), \D?({NUMBER.pattern})\\\]")
SETTING = re.compile(r"\d+ x \d+ tokens")
"""What was run, as a card's table names it in other words."""


def numbers(text: str) -> Iterator[str]:
    return (number.replace(",", "") for number in NUMBER.findall(SETTING.sub("", text)))


def is_in(number: str, text: str) -> bool:
    """Rounded to as many places, as it is or in percent; without its sign, which words tell."""
    places = len(number.partition(".")[2])
    return any(float(number) in (round(float(one), places), round(float(one) * 100, places)) for one in numbers(text))


def test_every_claim_has_a_row():
    assert len(CARDS) == 25
    assert [row[0] for row in ROWS] == list(CARDS)


def test_the_verdicts_are_counted():
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    told = re.search(
        r"Of (\d+) pieces .+? (\d+) are supported .+? (\d+) hold .+? (\d+) are refuted, and (\d+) are", readme
    )
    assert told
    verdicts = [row[1] for row in ROWS]
    counts = [verdicts.count(name) for name in ("supported", "conditional", "refuted", "inconclusive")]
    assert [int(number) for number in told.groups()] == [len(ROWS), *counts]


@pytest.mark.parametrize(("card", "verdict", "because"), ROWS, ids=[row[0] for row in ROWS])
def test_a_row_says_what_its_card_says(card, verdict, because):
    found = VERDICT.search(CARDS[card])
    assert found
    assert verdict == found.group(1)
    assert [number for number in numbers(because) if not is_in(number, CARDS[card])] == []


@pytest.mark.parametrize(
    ("card", "interval"),
    [(card, interval) for card, _, because in ROWS for interval in INTERVAL.findall(because)],
    ids=str,
)
def test_an_interval_is_that_of_its_value(card, interval):
    lines = CARDS[card].splitlines()
    assert any(all(is_in(number.replace(",", ""), line) for number in interval) for line in lines), interval


def test_a_number_that_no_card_has_would_be_seen():
    assert is_in("1.05", "| 0.05 | 1.0534 | 1.02 |")
    assert not is_in("1.06", "| 0.05 | 1.0534 | 1.02 |")
    assert is_in("74", "frees 0.7421 of it")
    assert list(numbers("8 x 512 tokens, rank 64: 1,598 MiB")) == ["64", "1598"]
    assert INTERVAL.findall(r"1.37 \[1.33, 1.40\] to 2.24") == [("1.37", "1.33", "1.40")]
