"""Numbers for reading: right values, right units, digits below digits."""

from __future__ import annotations

import pytest

from lorabench.report.page.quantities import (
    ABSENT,
    cell,
    heading,
    interval,
    number,
    quantity,
    scale_of,
    split_unit,
    table,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1_234_567, "1,234,567"),
        (16.0, "16"),
        (0.5, "0.5"),
        (0.63784, "0.6378"),
        (1234.567, "1,235"),
        (12.3456, "12.35"),
        (0.00012345, "0.0001234"),
        (1.5e-7, "1.50e-07"),
        (-2.25, "\u22122.25"),
        (-3, "\u22123"),
        (float("inf"), ABSENT),
    ],
)
def test_number(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (16_794_200, "bytes", "16.02 MiB"),
        (512, "bytes", "512 B"),
        (0.0123, "s", "12.3 ms"),
        (1.5, "%", "1.5%"),
        (0.97, "ms", "0.97 ms"),
        (7, "", "7"),
        (None, "ratio", ABSENT),
    ],
)
def test_quantity_has_the_unit_that_reads_best(value, unit, text):
    assert quantity(value, unit) == text


def test_both_ends_of_an_interval_share_their_unit():
    assert interval((900_000, 2_500_000), "bytes") == "0.8583 to 2.384 MiB"
    assert interval((0.31, 0.36), "ratio") == "0.31 to 0.36 ×"  # noqa: RUF001
    assert interval(None, "ratio") == ABSENT


@pytest.mark.parametrize(
    ("unit", "parts"),
    [
        ("% off the computed bytes", ("%", "off the computed bytes")),
        ("ms a switch, with the most adapters", ("ms", "a switch, with the most adapters")),
        ("unmerged / base time", ("", "unmerged / base time")),
        ("bytes of a further adapter / its own", ("", "bytes of a further adapter / its own")),
        ("share of cases", ("", "share of cases")),
        ("ratio", ("ratio", "")),
        ("bytes", ("bytes", "")),
        ("%", ("%", "")),
    ],
)
def test_a_claims_unit_is_a_sign_and_what_is_measured(unit, parts):
    assert split_unit(unit) == parts


def test_bytes_and_seconds_are_scaled_by_their_largest():
    assert scale_of("static_bytes", [2**20, 3 * 2**30, None]).unit == "GiB"
    assert scale_of("median_s", [0.0004, 0.02]).unit == "ms"
    assert scale_of("tokens_per_s", [2**40]).unit == ""


def test_headings_say_units_apart():
    assert heading("peak_allocated_bytes") == "peak allocated"
    assert heading("median_s") == "median"
    assert heading("tokens_per_s") == "tokens/s"


def test_a_tables_bytes_are_exact_and_its_decimals_stand_in_line():
    rows = [
        {"model": "a", "static_bytes": 7_901_952, "ratio": 0.5, "step_s": 0.012, "equal": True},
        {"model": "b", "static_bytes": 163_000_000, "ratio": 0.123456, "step_s": None, "equal": False},
    ]
    made = table(rows, most=10)
    assert [(one.heading, one.unit, one.numeric) for one in made.columns] == [
        ("model", "", False),
        ("static", "B", True),
        ("ratio", "", True),
        ("step", "ms", True),
        ("equal", "", False),
    ]
    assert made.rows == (
        ("a", "7,901,952", "0.500", "12", "yes"),
        ("b", "163,000,000", "0.123", ABSENT, "no"),
    )


def test_a_table_says_how_many_rows_it_leaves_out():
    made = table([{"n": n} for n in range(7)], most=3)
    assert [row[0] for row in made.rows] == ["0", "1", "2"]
    assert made.left_out == 4


def test_columns_of_some_rows_alone_are_kept():
    assert table([{"a": 1}, {"b": 2}], most=9).rows == (("1", ABSENT), (ABSENT, "2"))


def test_values_far_apart_keep_their_own_digits():
    assert [row[0] for row in table([{"error": 1.5e-8}, {"error": 0.25}], most=9).rows] == ["1.50e-08", "0.25"]


def test_cells_of_other_kinds():
    assert cell(["q_proj", "v_proj"]) == "q_proj+v_proj"
    assert cell(None) == ABSENT
