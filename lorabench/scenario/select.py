"""``-k``: pytest's expressions over the names of cases."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from lorabench.case import Case
from lorabench.errors import InputError
from lorabench.wording import one_line

_DEPTH_LIMIT = 50
# Pytest's identifiers, and what else stands in the name of a case, so that a name can be pasted.
_TOKEN = re.compile(r"\s*(?:(?P<parenthesis>[()])|(?P<word>[\w:+\-.\[\]\\/=,{}]+))")

Matcher = Callable[[str], bool]


def select(cases: Sequence[Case], expression: str) -> list[Case]:
    """The cases whose name an expression matches: words, ``and``, ``or``, ``not``, parentheses, as in pytest.

    A word matches a name that contains it, upper or lower case alike. An empty expression matches all.

    Raises:
        InputError: the expression cannot be read, or matches no case.
    """
    if not expression.strip():
        return list(cases)
    matches = _Parser(expression).whole()
    chosen = [case for case in cases if matches(case.name.lower())]
    if not chosen:
        raise InputError(
            f"-k: {_quoted(expression)} matches none of the {len(cases)} cases; `lorabench list` shows them"
        )
    return chosen


class _Parser:
    """Recursive descent over pytest's grammar: or of ands of nots of words and parentheses."""

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self.tokens = self._split(expression)
        self.position = 0

    def whole(self) -> Matcher:
        matcher = self._either(0)
        if self._peek() is not None:
            raise self._error(f"unexpected {self._peek()!r}; join words with and, or, not")
        return matcher

    def _split(self, expression: str) -> list[str]:
        tokens, position, text = [], 0, expression.rstrip()
        while position < len(text):
            found = _TOKEN.match(text, position)
            if found is None:
                strange = text[position:].lstrip()[0]
                raise self._error(f"unexpected character {one_line(strange)!r}; use words, and, or, not, ( )")
            tokens.append(found.group().strip())
            position = found.end()
        return tokens

    def _peek(self) -> str | None:
        return self.tokens[self.position] if self.position < len(self.tokens) else None

    def _take(self, token: str) -> bool:
        if self._peek() != token:
            return False
        self.position += 1
        return True

    def _either(self, depth: int) -> Matcher:
        branches = [self._both(depth)]
        while self._take("or"):
            branches.append(self._both(depth))
        return lambda name: any(branch(name) for branch in branches)

    def _both(self, depth: int) -> Matcher:
        branches = [self._negated(depth)]
        while self._take("and"):
            branches.append(self._negated(depth))
        return lambda name: all(branch(name) for branch in branches)

    def _negated(self, depth: int) -> Matcher:
        if depth > _DEPTH_LIMIT:
            raise self._error("is nested too deeply")
        if self._take("not"):
            inner = self._negated(depth + 1)
            return lambda name: not inner(name)
        if self._take("("):
            inner = self._either(depth + 1)
            if not self._take(")"):
                raise self._error("a closing parenthesis is missing")
            return inner
        word = self._peek()
        if word is None or word in ("and", "or", ")"):
            found = "it ends there" if word is None else f"{word!r} follows"
            raise self._error(f"a word is missing: {found}")
        self.position += 1
        wanted = word.lower()
        return lambda name: wanted in name

    def _error(self, message: str) -> InputError:
        return InputError(f"-k: {_quoted(self.expression)}: {message}")


def _quoted(expression: str) -> str:
    text = one_line(expression)
    return repr(text if len(text) <= 80 else text[:77] + "...")
