"""A comparison as people read it: on the terminal, as Markdown, as a page; nothing from a file is markup in any."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest

from lorabench.analysis.comparison import Metric, compare
from lorabench.errors import InputError
from lorabench.record import AlsoIn, Memory, RecordError, Timing
from lorabench.report.comparison import page
from lorabench.report.comparison.markdown import markdown
from lorabench.report.comparison.rows import blocks, change_of, legend, share_of, summary
from lorabench.report.comparison.terminal import print_comparison
from lorabench.report.terminal import open_console
from lorabench.results import Results

MIB = 2**20
NASTY = "<script>alert('owned')</script> [x](http://x) `a|b`"


@pytest.fixture
def results(environment):
    def make(*records, path="a.jsonl") -> Results:
        return Results({environment.id: environment}, list(records), [], Path(path))

    return make


@pytest.fixture
def grown(results, make_record):
    """One case, whose peak grew by 2 MiB of activations and whose step did not change for sure."""
    before = Memory(100 * MIB, 50 * MIB, 150 * MIB, categories={"activations": 20 * MIB})
    after = Memory(100 * MIB, 52 * MIB, 152 * MIB, categories={"activations": 22 * MIB})
    return compare(results(make_record(memory=before)), results(make_record(memory=after), path="b.jsonl"))


def told(comparison) -> str:
    stream = io.StringIO()
    print_comparison(open_console(stream), comparison)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("base", "head", "change", "share"),
    [
        (100, 100, "same", ""),
        (2**30, 2**30 + 1, "+1 B", "+<0.001%"),
        (100 * MIB, 98 * MIB, "\u22122 MiB", "\u22122.0%"),
        (100 * MIB, 100.5 * MIB, "+512 KiB", "+0.5%"),
        (0, 512, "+512 B", ""),
        (None, 512, "–", ""),  # noqa: RUF001
    ],
)
def test_a_change_of_bytes_is_never_rounded_away(base, head, change, share):
    metric = Metric("static", "bytes", base, head)
    assert (change_of(metric), share_of(metric)) == (change, share)


def test_a_time_within_the_others_interval_stands_in_brackets():
    near = Metric(
        "step",
        "seconds",
        0.010,
        0.012,
        Timing((), 0.010, (0.009, 0.0115), False),
        Timing((), 0.012, (0.0105, 0.013), False),
    )
    apart = replace(near, base_timing=Timing((), 0.010, (0.009, 0.0101), False))
    assert (change_of(near), share_of(near)) == ("(+2 ms)", "(+20.0%)")
    assert (change_of(apart), share_of(apart)) == ("+2 ms", "+20.0%")


@pytest.mark.parametrize(
    ("head_s", "change", "share"),
    [
        (0.010, "(0 µs)", "(0%)"),
        (0.01000001, "(+0.01 µs)", "(+<0.001%)"),
        (0.00999999, "(\u22120.01 µs)", "(\u2212<0.001%)"),
    ],
)
def test_a_share_stands_in_brackets_as_its_change_does(head_s, change, share):
    base, head = (Timing((), median_s, (0.009, 0.011), False) for median_s in (0.010, head_s))
    metric = Metric("step", "seconds", base.median_s, head.median_s, base, head)
    assert (change_of(metric), share_of(metric)) == (change, share)


def test_memory_that_is_the_same_is_one_row(results, make_record):
    same = compare(results(make_record()), results(make_record()))
    (block,) = blocks(same)
    assert [row.metric for row in block.rows] == ["memory, peak", "step"]


def test_the_terminal_has_both_values_the_change_and_what_grew(grown):
    text = told(grown)
    assert re.search(r"peak allocated +150\.0 +152\.0 +\+2 MiB +\+1\.3%", text)
    assert "at the peak activations +2 MiB" in text
    assert "1 case in both files: 1 with more bytes, 0 with fewer, 0 the same" in text
    assert text.startswith("base: a.jsonl (1 record, Imaginary CPU, 2026-01-02)\nhead: b.jsonl")


def test_an_ending_that_got_worse_is_told_first(results, make_record):
    failed = make_record(status="failed", error=RecordError("E", "m"), memory=None, latency={})
    comparison = compare(results(make_record()), results(failed))
    (block,) = blocks(comparison)
    assert (block.rows[0].metric, block.rows[0].base, block.rows[0].head) == ("status", "ok", "failed")
    assert "1 case ended ok in the base and not in the head" in summary(comparison)


def test_nothing_in_common_is_said(results, make_record, failed_record):
    comparison = compare(results(make_record()), results(failed_record))
    text = told(comparison)
    assert "no case is in both files" in text
    assert "only in the base" in text
    assert "only in the head" in text
    shown = page.page(comparison)
    assert "No case is in both files" in shown
    assert "Memory in MiB" not in shown
    assert "no case is in both files" in markdown(comparison)


def test_the_legend_has_what_the_rows_show(results, make_record):
    def legend_of(*records):
        return legend(compare(results(*records), results(*records)))

    assert legend_of(make_record(latency={})) == "memory in MiB"
    half = "± is the wider half of the median's 95% interval"
    brackets = "a change in time stands in brackets where the two intervals overlap"
    assert legend_of(make_record()) == f"memory in MiB, times in ms; {half}; {brackets}"
    shaky = Timing((0.01, 0.02), 0.015, (0.01, 0.02), unstable=True)
    assert legend_of(make_record(latency={"step": shaky})) == (
        f"memory in MiB, times in ms; {half}; ~ marks unstable times; {brackets}"
    )


def test_the_pages_legend_keeps_its_capitals(grown):
    shown = page.page(grown)
    assert "Memory in MiB, times in ms; " in shown
    assert "Two runs differ by what else the machine did, too: " in shown


def test_markdown_has_what_changed_before_what_is_the_same(grown):
    text = markdown(grown)
    changed, same = text.index("### What changed"), text.index("<details>")
    assert changed < text.index("| peak allocated | 150.0 | 152.0 | +2 MiB | +1.3% | activations +2 MiB |") < same
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in tables} == {8}


def test_names_from_files_are_text(results, make_record):
    odd = make_record(case={"scenario": NASTY, "axes": (("adapter.rank", NASTY),)})
    comparison = compare(results(odd, path=f"{NASTY[:8]}.jsonl"), results(odd))
    assert "<script>alert" not in page.page(comparison)
    text = markdown(comparison)
    outside = re.sub(r"`+[^`\n]*?`+", "", text)
    assert "[x](http" not in outside.replace("\\", "\\\\")
    assert told(comparison).count(NASTY) == 2


def test_a_page_cannot_be_written_where_a_file_stands(grown, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"--out .*cannot be written"):
        page.write_page(grown, tmp_path / "file")


def test_an_invalid_case_has_no_chart(results, make_record):
    bad = make_record(case={"batch_size": 9}, status="invalid", error=RecordError("E", "m"))
    both = compare(results(make_record(), bad), results(make_record(), replace(bad, status="ok", error=None)))
    drawn = [case["label"] for group in page._chart_data(both, sampled=True)["groups"] for case in group["cases"]]
    assert (len(both.pairs), drawn) == (2, [f"4 {make_record().key}"])
    alone = page.page(compare(results(bad), results(bad)))
    assert "Each case in both files is invalid in one of them, so there is nothing to draw" in alone
    assert 'id="chart-scenario"' not in alone


def test_a_page_beyond_its_size_goes_without_samples(grown, monkeypatch):
    monkeypatch.setattr(page, "SAMPLE_BYTES", 10)
    assert page.page(grown)
    assert page._chart_data(grown, sampled=False)["groups"][0]["cases"][0]["base"]["times"]["step"]["samples"] == ()


def test_a_shared_case_stands_in_each_table_and_counts_once(results, make_record):
    also = (AlsoIn("lengths", "lengths[sequence_length=512]", (("sequence_length", 512),)),)
    grown = replace(make_record().memory, peak_allocated_bytes=152 * MIB)
    comparison = compare(results(make_record()), results(make_record(also=also, memory=grown), path="b.jsonl"))
    text = told(comparison)
    assert "ranks on Imaginary CPU" in text
    assert "lengths on Imaginary CPU" in text
    assert "1 case in both files: 1 with more bytes" in text
    assert markdown(comparison).count("peak allocated") == 1
    groups = page._chart_data(comparison, sampled=True)["groups"]
    assert [group["title"] for group in groups] == ["lengths on Imaginary CPU", "ranks on Imaginary CPU"]
