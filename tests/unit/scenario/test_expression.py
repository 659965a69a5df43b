"""``-k`` is pytest's and/or/not over the names of cases."""

from __future__ import annotations

import pytest
from _pytest.mark.expression import Expression
from hypothesis import given
from hypothesis import strategies as st

from lorabench.case import Case
from lorabench.errors import InputError
from lorabench.scenario import select

CASES = [
    Case("rank", "train", "llama-tiny", axes=(("adapter.rank", rank), ("quantization", quantization)))
    for rank in (8, 16)
    for quantization in ("bf16", "int8")
]
NAMES = [case.name for case in CASES]


def chosen(expression: str) -> list[str]:
    return [case.name for case in select(CASES, expression)]


@pytest.mark.parametrize(
    ("expression", "indices"),
    [
        ("rank", [0, 1, 2, 3]),
        ("BF16", [0, 2]),
        ("not bf16", [1, 3]),
        ("not not bf16", [0, 2]),
        ("rank=8", [0, 1]),
        ("rank=8 and int8", [1]),
        ("rank=8 or int8", [0, 1, 3]),
        ("rank=8 or rank=16 and int8", [0, 1, 3]),
        ("(rank=8 or rank=16) and int8", [1, 3]),
        ("not (rank=8 or int8)", [2]),
        ("rank[adapter.rank=8,quantization=bf16]", [0]),
        ("  ", [0, 1, 2, 3]),
        ("", [0, 1, 2, 3]),
    ],
)
def test_selects(expression: str, indices: list[int]) -> None:
    assert chosen(expression) == [NAMES[index] for index in indices]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("bf16 and", "it ends there"),
        ("and bf16", "'and' follows"),
        ("not", "it ends there"),
        ("(bf16", "closing parenthesis is missing"),
        ("bf16)", r"unexpected '\)'"),
        ("()", r"'\)' follows"),
        ("bf16 int8", "unexpected 'int8'; join words with and, or, not"),
        ("bf16 & int8", "unexpected character '&'"),
        ("a\nb \x1b", r"unexpected character"),
        ("fp64", "matches none of the 4 cases"),
        ("(" * 10_000, "nested too deeply"),
        ("not " * 10_000 + "a", "nested too deeply"),
    ],
)
def test_refused_in_one_line(expression: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        select(CASES, expression)
    assert str(caught.value).isprintable()


@given(
    st.lists(st.sampled_from(["rank", "bf16", "8", "and", "or", "not", "(", ")", "nothing"]), min_size=1, max_size=9)
)
def test_agrees_with_pytest(words: list[str]) -> None:
    expression = " ".join(words)
    try:
        compiled = Expression.compile(expression)
        expected = [name for name in NAMES if compiled.evaluate(lambda word, name=name, **_: word in name)]
    except SyntaxError:
        expected = []
    if expected:
        assert chosen(expression) == expected
    else:
        with pytest.raises(InputError):
            chosen(expression)
