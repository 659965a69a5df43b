"""Attributes of libraries that are other ones for a while."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

Replacement = tuple[Any, str, Any]
"""The owner, the attribute's name, and what stands in for it."""


@contextmanager
def replaced(replacements: Iterable[Replacement]) -> Iterator[None]:
    """Put the replacements in place, and take them back in the opposite order."""
    with ExitStack() as stack:
        for owner, name, replacement in replacements:
            stack.enter_context(_replaced_one(owner, name, replacement))
        yield


@contextmanager
def _replaced_one(owner: Any, name: str, replacement: Any) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, replacement)
    try:
        yield
    finally:
        setattr(owner, name, original)
