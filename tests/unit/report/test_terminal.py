"""The table of results: right numbers, readable at both widths, never wrapped in a pipe."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from lorabench.case import case_from_dict
from lorabench.record import Memory, RecordDevice, Timing
from lorabench.report.terminal import (
    in_order,
    labels,
    milliseconds,
    open_console,
    per_second,
    print_records,
    records_of,
)


def render(records, width: int | None = None, **options) -> list[str]:
    """The lines that a terminal of ``width`` columns shows; those of a pipe without."""
    stream = io.StringIO()
    if width is None:
        console = open_console(stream)
    else:
        console = Console(file=stream, width=width, force_terminal=True, highlight=False, markup=False, **options)
    print_records(console, records)
    return re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue()).splitlines()


def timing(median_s: float, unstable: bool = False) -> Timing:
    reason = "drift: +9.0% from the first third of the samples to the last" if unstable else None
    return Timing((median_s,), median_s, (median_s * 0.99, median_s * 1.02), unstable, reason)


@pytest.fixture
def inference(make_record):
    states = ("base", "unmerged", "merged")
    return [
        make_record(
            case={
                "scenario": "adapter-state",
                "task": "infer",
                "adapter_state": state,
                "axes": (("adapter_state", state), ("batch_size", batch_size)),
                "batch_size": batch_size,
            },
            latency={"prefill": timing(0.1234), "decode": timing(0.0123)},
            memory=Memory(12868 * 2**20 + 2**19, 2887 * 2**20, 15755 * 2**20),
        )
        for state in states
        for batch_size in (1, 4)
    ]


@pytest.mark.parametrize("width", [80, 120])
def test_rows_fit_the_terminal(inference, width):
    lines = render(inference, width)
    rows = [line for line in lines if line.startswith(("base", "unmerged", "merged"))]
    assert len(rows) == 6
    assert all(len(line.rstrip()) <= width for line in rows)
    assert " ".join(rows[0].split()) == "base 1 12868.5 2887.0 15755.0 123.4 ±2.5 12.3 ±0.2 46545 ok"


def test_a_heading_names_what_varies_and_where(inference):
    assert render(inference)[0] == (
        "adapter-state (infer; llama-tiny; varied: adapter_state, batch_size) on Imaginary CPU"
    )


def test_nothing_wraps_in_a_pipe(make_record):
    value = "q" * 300
    record = make_record(case={"axes": (("adapter.target_modules", value),)})
    assert any(value in line and line.rstrip().endswith("ok") for line in render([record]))


def test_a_long_label_folds_on_a_terminal_without_losing_a_letter(make_record):
    value = "abcdefghij" * 6
    lines = render([make_record(case={"axes": (("adapter.target_modules", value),)})], 80)
    assert all(len(line) <= 80 for line in lines[1:-2])
    assert "".join(line.split()[0] for line in lines[2:] if line.strip() and line.split()[0] in value) == value


def test_a_failure_is_told_below_the_table(make_record, failed_record):
    lines = render([make_record(), failed_record])
    assert lines[3].split() == ["8", "-", "-", "-", "-", "-", "failed"]
    assert lines[4] == "  8: failed in forward: RuntimeError: no such kernel"


def test_an_unstable_time_is_marked_and_explained(make_record):
    lines = render([make_record(latency={"step": timing(0.05, unstable=True)})])
    assert "~50.0 ±1.0" in lines[2]
    assert lines[3] == "  4: unstable: step drift: +9.0% from the first third of the samples to the last"


def test_what_a_record_warns_of_is_below_the_table(make_record):
    lines = render([make_record(observations={"warnings": ["something else uses this GPU"]})])
    assert lines[3] == "  4: warning: something else uses this GPU"


def test_a_prediction_has_no_columns_of_time(make_record):
    record = make_record(source="predicted", device=RecordDevice("fake", "H100"), latency={}, tokens_per_s=None)
    heading, columns, row, *_ = render([record])
    assert heading.endswith("predicted for H100")
    assert columns.split() == ["case", "static", "dynamic", "peak", "status"]
    assert row.split() == ["4", "100.0", "50.0", "150.0", "ok"]


def test_a_file_is_read_in_order_of_scenario_and_value(make_record):
    records = [make_record(case={"axes": (("adapter.rank", rank),)}) for rank in (64, 8, 256, 1)]
    first = make_record(case={"scenario": "a"})
    assert [record.name for record in in_order([*records, first])] == [
        "a[adapter.rank=4]",
        *(f"ranks[adapter.rank={rank}]" for rank in (1, 8, 64, 256)),
    ]


def test_rows_stay_in_the_order_given_below_their_scenario(make_record):
    ranks = [make_record(case={"axes": (("adapter.rank", rank),)}) for rank in (64, 8)]
    other = make_record(case={"scenario": "other", "axes": (("adapter.rank", 1),)})
    lines = render([ranks[0], other, ranks[1]])
    assert [line.split()[0] for line in lines if line and line[0].isdigit()] == ["64", "8", "1"]


def test_repeats_are_told_apart(make_record):
    lines = render([make_record(repeat=repeat) for repeat in (0, 1)])
    assert [line.split()[:2] for line in lines[2:4]] == [["4", "#1"], ["4", "#2"]]


def test_rows_of_several_runs_in_one_file_are_told_apart(make_record):
    """By seed where seeds differ, else by key; a row that nothing is like stays as it is."""
    axes = {"axes": (("adapter.rank", 4),)}
    first, second = make_record(case=axes), make_record(case={**axes, "seed": 1})
    alone = make_record(case={"axes": (("adapter.rank", 8),)})
    assert labels([first, second, alone]) == ["4 seed 0", "4 seed 1", "8"]
    longer = make_record(case={**axes, "sequence_length": 64})
    assert labels([first, longer, alone]) == [f"4 {first.key}", f"4 {longer.key}", "8"]


def test_predictions_have_a_table_of_their_own(make_record):
    lines = render([make_record(), make_record(source="predicted")])
    headings = [line for line in lines if " on " in line or " predicted for " in line]
    assert [("predicted for" in line) for line in headings] == [False, True]


def test_cases_with_other_axes_name_them(make_record):
    lines = render([make_record(), make_record(case={"axes": (("batch_size", 2),)})])
    assert "varied" not in lines[0]
    assert [line.split()[0] for line in lines[2:4]] == ["adapter.rank=4", "batch_size=2"]


def test_an_escape_sequence_in_a_file_does_not_reach_the_terminal(make_record):
    record = make_record(case={"model": "\x1b[2Jgone", "axes": (("model", "\x1b[2Jgone"),)})
    lines = render([record])
    assert not any("\x1b" in line for line in lines)
    assert any("\\x1b[2Jgone" in line for line in lines)


def test_markup_in_a_name_is_plain_text(make_record):
    lines = render([make_record(case={"axes": (("model", "[red]a[/red]"),)})])
    assert any("[red]a[/red]" in line for line in lines)


def test_colour_is_for_terminals_that_want_it(make_record, monkeypatch):
    def output(**options):
        stream = io.StringIO()
        print_records(Console(file=stream, width=80, **options), [make_record()])
        return stream.getvalue()

    assert "\x1b[32mok" in output(force_terminal=True, color_system="standard")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in output(force_terminal=True, color_system="standard")


def test_the_legend_comes_once_and_only_below_a_table(make_record):
    other = make_record(case={"scenario": "other"})
    legend = "static, dynamic and peak in MiB; ± is the wider half of the median's 95% interval"
    assert render([make_record(), other]).count(legend) == 1
    assert render([]) == []


def test_the_legend_has_the_signs_that_a_table_shows(make_record):
    predicted = make_record(source="predicted", device=RecordDevice("fake", "H100"), latency={}, tokens_per_s=None)
    assert render([predicted])[-1] == "static, dynamic and peak in MiB"
    shaky = make_record(case={"scenario": "other"}, latency={"step": timing(0.05, unstable=True)})
    assert render([predicted, shaky])[-1] == (
        "static, dynamic and peak in MiB; ± is the wider half of the median's 95% interval; ~ marks unstable times"
    )
    # Its table has the step alone.
    hidden = make_record(latency={"step": timing(0.05), "forward": timing(0.02, unstable=True)})
    assert "~" not in render([hidden])[-1]


@pytest.mark.parametrize(
    ("median_s", "low_s", "high_s", "text"),
    [
        (0.0741, 0.0739, 0.0745, "74.1 ±0.4"),
        (0.000123, 0.000120, 0.000124, "0.123 ±0.003"),
        (0.00512, 0.0051, 0.0052, "5.12 ±0.08"),
        (1.5, 1.25, 1.6, "1500 ±250"),
        (0.00139, 0.001386, 0.001393, "1.39 ±<0.01"),
        (1.5, 1.4996, 1.5, "1500 ±<1"),
        (0.0741, 0.0741, 0.0741, "74.1 ±0.0"),
    ],
)
def test_milliseconds_quote_the_wider_half_of_the_interval(median_s, low_s, high_s, text):
    assert milliseconds(Timing((median_s,), median_s, (low_s, high_s), unstable=False)) == text


@pytest.mark.parametrize(("rate", "text"), [(None, "-"), (99.94, "99.9"), (46545.45, "46545")])
def test_rates(rate, text):
    assert per_second(rate) == text


def test_a_case_that_scenarios_share_stands_in_the_table_of_each(make_record):
    rank = case_from_dict(make_record().case)
    length = replace(rank, scenario="lengths", axes=(("sequence_length", 512),))
    assert rank.key == length.key
    once = make_record(repeat=0), make_record(repeat=1), make_record(case={"batch_size": 9})
    shown = records_of([rank, length], once)
    assert [(record.name, record.repeat) for record in shown] == [
        ("ranks[adapter.rank=4]", 0),
        ("ranks[adapter.rank=4]", 1),
        ("lengths[sequence_length=512]", 0),
        ("lengths[sequence_length=512]", 1),
    ]


def test_a_record_of_another_seed_or_group_is_not_the_cases(make_record):
    case = case_from_dict(make_record().case)
    assert records_of([case], [make_record(seed=1), make_record(group="ranks#1")]) == []
