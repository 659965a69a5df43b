"""Pieces of messages: the nearest valid name, a count, days, and strangers' text made safe to print on one line."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from typing import Any

_SHOWN_CHARACTERS = 60


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """``" (did you mean 'x'?)"`` for the closest of ``known``; empty where nothing is close."""
    names = {name.lower(): name for name in known}
    # Longer than any name cannot be near one, and difflib takes quadratic time.
    close = difflib.get_close_matches(wrong.lower()[:200], names, n=1, cutoff=0.6)
    return f" (did you mean {names[close[0]]!r}?)" if close else ""


def counted(number: int, noun: str) -> str:
    """``1 case``, ``1,000 cases``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def days(starts: Iterable[str]) -> str | None:
    """The days of ISO times, from the first to the last: ``2026-01-02 to 2026-01-04``, or one. None of none.

    Days need no time zone to be read.
    """
    found = sorted(start[:10] for start in starts)
    if not found:
        return None
    return found[0] if found[0] == found[-1] else f"{found[0]} to {found[-1]}"


def shown(value: Any) -> str:
    """A value from a file as one short line."""
    text = one_line(json.dumps(value, default=repr, ensure_ascii=False))
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


def one_line(text: str) -> str:
    """Control characters, line ends and lone surrogates escaped, so that a message stays one line on any terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
