"""A record written out whole: nothing is left out, and raw numbers have a readable unit beside them."""

from __future__ import annotations

import io

from lorabench.report.details import detail_lines, print_details
from lorabench.report.terminal import open_console


def test_every_value_of_a_record_is_there(make_record):
    def names(data, depth=0):
        for name, value in data.items():
            yield "  " * depth + name
            if isinstance(value, dict):
                yield from names(value, depth + 1)

    data = make_record().to_dict()
    assert [line.split(":")[0] for line in detail_lines(data)] == list(names(data))


def test_numbers_keep_their_digits_and_get_a_unit():
    data = {"static_bytes": 2476132147, "median_s": 0.0741234567, "wall_s": 12.5, "tokens_per_s": 0.5, "rank": 8}
    assert list(detail_lines(data)) == [
        "static_bytes: 2476132147 (2361.4 MiB)",
        "median_s: 0.0741234567 (74.123 ms)",
        "wall_s: 12.5",
        "tokens_per_s: 0.5",
        "rank: 8",
    ]


def test_nothing_and_flags_and_lists():
    data = {"group": None, "phases": {}, "unstable": False, "ranks": [0], "note": "two\nlines"}
    assert list(detail_lines(data)) == ["group: -", "phases: -", "unstable: false", "ranks: [0]", "note: two\\nlines"]


def test_a_long_value_is_one_line():
    stream = io.StringIO()
    print_details(open_console(stream), {"samples_s": [0.125] * 500})
    assert stream.getvalue().count("\n") == 1
