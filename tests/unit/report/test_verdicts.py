"""The table of verdicts: every field in its place, what is unsettled explained, one line a line."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from lorabench.analysis.claims.claim import Claim, Finding, Verdict
from lorabench.analysis.claims.evidence import Scope
from lorabench.report.terminal import open_console
from lorabench.report.verdicts import LEGEND, effect, print_verdicts

SCOPE = Scope("cpu", "Imaginary CPU", "measured", ("llama-tiny",), (("torch", "2.13.0"), ("peft", "0.21.2")))


def verdict(finding: Finding, name: str = "merged-adds-none", scope: Scope = SCOPE) -> Verdict:
    claim = Claim(
        id=name,
        chapter="6",
        title="Merged adapters add no latency",
        hypothesis="",
        method="",
        refuted_by="",
        threshold=1.0,
        threshold_text="",
        unit="merged / base",
        test=lambda _: finding,
    )
    return Verdict(claim, scope, finding)


def render(verdicts, width: int | None = None, **options) -> list[str]:
    """The lines that a terminal of ``width`` columns shows; those of a pipe without."""
    stream = io.StringIO()
    console = open_console(stream) if width is None else Console(file=stream, width=width, highlight=False, **options)
    print_verdicts(console, verdicts)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_a_row_tells_verdict_effect_interval_unit_and_n():
    finding = Finding("supported", "Equal.", effect=1.00349, ci95=(0.9981, 1.0088), n=30)
    lines = render([verdict(finding)])
    assert lines[0] == "Imaginary CPU; llama-tiny; torch 2.13.0, peft 0.21.2"
    assert lines[1].split() == ["claim", "verdict", "effect", "n"]
    assert re.split(r"\s{2,}", lines[2]) == [
        "merged-adds-none",
        "supported",
        "1.003 [0.9981, 1.009] merged / base",
        "30",
    ]
    assert lines[3:] == ["", LEGEND]


@pytest.mark.parametrize(
    ("finding", "words"),
    [
        (Finding("supported", "", effect=0.0), "0"),
        (Finding("supported", "", effect=16_794_200.0), "16794200"),
        (Finding("supported", "", effect=0.000012345), "1.234e-05"),
        (Finding("not tested", ""), "-"),
    ],
)
def test_an_effect_in_four_digits(finding, words):
    assert effect(finding) == words


@pytest.mark.parametrize(
    ("finding", "note"),
    [
        (Finding("conditional", "Long.", condition="under fp32; not under int8"), "holds under fp32; not under int8"),
        (Finding("conditional", "Only some."), "Only some."),
        (Finding("inconclusive", "Spans 1."), "Spans 1."),
        (Finding("not tested", "", missing=("int8 cases", "a merge")), "needs int8 cases; a merge"),
        (Finding("refuted", "It is not so."), None),
        (Finding("supported", "It is so.", missing=("more ranks",)), None),
    ],
)
def test_what_is_unsettled_is_explained_below_in_one_line(finding, note):
    notes = [line for line in render([verdict(finding)]) if line.startswith("  ")]
    assert notes == ([] if note is None else [f"  merged-adds-none: {note}"])


def test_each_scope_has_a_table_of_its_own():
    there = replace(SCOPE, device_type="cuda", device_name="Imaginary GPU", source="predicted", versions=())
    old = replace(SCOPE, committed=True)
    finding = Finding("refuted", "No.")
    lines = render(
        [verdict(finding), verdict(finding, scope=there), verdict(finding, scope=old), verdict(finding, "b")]
    )
    headings = [line for line in lines if line.startswith(("Imaginary", "predicted"))]
    assert headings == [
        "Imaginary CPU; llama-tiny; torch 2.13.0, peft 0.21.2",
        "predicted for Imaginary GPU; llama-tiny",
        "Imaginary CPU; llama-tiny; torch 2.13.0, peft 0.21.2; committed evidence",
    ]
    assert lines[3].startswith("b "), "verdicts of one scope stand together"


def test_no_records_are_no_verdicts():
    assert render([]) == ["no records to judge claims by"]


def test_nothing_wraps_in_a_pipe_and_names_from_files_stay_text():
    scope = replace(SCOPE, models=("[red]evil\x1b[31m\nmodel",))
    note = "x" * 500
    lines = render([verdict(Finding("inconclusive", f"{note}\x1b[2J\n{note}"), scope=scope)])
    assert lines[0].startswith(r"Imaginary CPU; [red]evil\x1b[31m\nmodel")
    assert any(line.count("x" * 500) == 2 for line in lines)
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize("width", [80, 120])
def test_rows_fit_the_terminal(width):
    finding = Finding("not tested", "", effect=1.5, ci95=(1.25, 1.75), n=1000)
    lines = render([verdict(finding, "cache-conflicts-with-checkpointing")], width)
    table = [line for line in lines[1:] if line][:-1]
    assert table[1].startswith("cache-conflicts-with-checkpointing  not tested  1.5 [1.25, 1.75] merge")
    assert all(len(line) <= width for line in table)


def test_colours_on_a_terminal_alone_and_not_with_no_color(monkeypatch):
    finding = verdict(Finding("refuted", "No."))

    def colours(**options) -> set[str]:
        return set(re.findall(r"\x1b\[[0-9;]*m", "\n".join(render([finding], 100, force_terminal=True, **options))))

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert any("31" in code for code in colours(color_system="standard"))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not any(re.search(r"[349][0-7]", code) for code in colours(color_system="standard"))
