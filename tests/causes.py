"""What the cards' causes name in the code of libraries: files, and the functions and classes in them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from lorabench.analysis.claims.catalogue import CLAIMS

FILE = re.compile(r"\b(?:\w+/)+\w+\.(?:py|cpp)\b")
NOT_INSTALLED = ".cpp"
"""torch's C++ sources: a wheel has none of them."""
CAUSES = {claim.id: claim.cause for claim in CLAIMS if claim.cause}

_NAME = r"[A-Za-z_][\w.]*\w(?:\(\))?"
_IN_FILE = re.compile(rf"({_NAME}(?:(?:, | and |, and ){_NAME})*) in ({FILE.pattern})")
_SENTENCE = re.compile(r"(?<=[.:]) (?=[A-Z])")
_CODE = re.compile(r"_|\w\.\w|[a-z][A-Z]|\(\)")
"""What tells a name in code from a word: an underscore, a dot inside, a second hump, or brackets."""


def files(cause: str) -> list[str]:
    """Python files of libraries that ``cause`` names, each once."""
    return list(dict.fromkeys(path for path in FILE.findall(cause) if not path.endswith(NOT_INSTALLED)))


def names_in_files(cause: str) -> Iterator[tuple[str, str]]:
    """``(name, file)`` of each "name in file", of "one and another in file" both."""
    for listed, path in _IN_FILE.findall(cause):
        if not path.endswith(NOT_INSTALLED):
            yield from ((name, path) for name in names(listed))


def names_beside(cause: str, path: str) -> set[str]:
    """Names in the sentences that name ``path``, in whatever way."""
    return {name for sentence in _SENTENCE.split(cause) if path in sentence for name in names(sentence)}


def names(text: str) -> list[str]:
    without_files = FILE.sub("", text)
    return [name.removesuffix("()") for name in re.findall(_NAME, without_files) if _CODE.search(name)]


@cache
def defined(path: str) -> frozenset[str]:
    """Names of functions and classes in a library's file, methods with and without their class; empty without it."""
    library, _, inside = path.partition("/")
    spec = find_spec(library)
    source = Path(spec.origin).parent / inside if spec is not None and spec.origin is not None else None
    if source is None or not source.is_file():
        return frozenset()
    return frozenset(_defined(ast.parse(source.read_text(encoding="utf-8")), ""))


def _defined(node: ast.AST, prefix: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from (child.name, prefix + child.name)
            yield from _defined(child, f"{child.name}.")
        else:
            # Some classes are defined under an if: where bitsandbytes is there.
            yield from _defined(child, prefix)
