"""Markdown shows what a file says, whatever is in it."""

from __future__ import annotations

import pytest

from lorabench.report.page.markdown import code, escaped, rows
from lorabench.report.page.quantities import table


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("<script>alert(1)</script>", r"\<script\>alert(1)\</script\>"),
        ("a|b", r"a\|b"),
        ("[link](http://x)", r"\[link\](http://x)"),
        ("*bold* `code` $x$", r"\*bold\* \`code\` \$x\$"),
        ("q_proj", "q_proj"),
        ("_emphasis_", r"\_emphasis\_"),
        ("two\nlines\x07", "two\\\\nlines\\\\x07"),
        ("# no heading", r"\# no heading"),
        ("&lt;", r"\&lt;"),
    ],
)
def test_text_stands_for_itself(text, safe):
    assert escaped(text) == safe


@pytest.mark.parametrize(
    ("text", "span"), [("plain", "`plain`"), ("a`b", "``a`b``"), ("`a`", "`` `a` ``"), ("a|b", "`a\\|b`")]
)
def test_code_is_fenced_by_more_backticks_than_it_has(text, span):
    assert code(text) == span


def test_a_table_aligns_numbers_and_says_units():
    made = str(rows(table([{"model": "a|b", "static_bytes": 1024}], most=5)))
    assert made.splitlines() == ["| model | static (B) |", "| --- | ---: |", r"| a\|b | 1,024 |"]
