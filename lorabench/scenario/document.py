"""YAML as a scenario file may use it: one document of mappings, lists and plain values, each with its line.

The parser's events are read one by one, so that aliases, tags, depth and size are refused before anything is built
from them. Plain values follow the core schema of YAML 1.2 (section 10.3.2): ``1e-4`` is a number, ``no`` is text.
"""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from lorabench.errors import ScenarioError
from lorabench.wording import one_line, shown

SIZE_LIMIT_BYTES = 128 * 1024
_DEPTH_LIMIT = 12
_DIGITS_LIMIT = 18

KeyPath = tuple[str | int, ...]

_NULL = re.compile(r"~|null|Null|NULL|")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


@dataclass(frozen=True)
class Document:
    """The plain data of a file, and the line of each key and list item; ``file`` is how messages name it."""

    file: str
    data: Mapping[str, Any]
    lines: Mapping[KeyPath, int]

    def line(self, path: KeyPath) -> int:
        """Line of ``path``, or of the nearest thing above it that stands in the file."""
        while path not in self.lines:
            path = path[:-1]
        return self.lines[path]

    def error(self, path: KeyPath, message: str) -> ScenarioError:
        return ScenarioError(self.file, self.line(path), spell(path), message)


def spell(path: KeyPath) -> str:
    """A path as messages show it: ``exclude[0].adapter.rank``."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{one_line(part)}" for part in path]
    return "".join(parts).removeprefix(".")


def read_document(path: Path) -> Document:
    """Read a scenario file.

    Raises:
        ScenarioError: the file cannot be read, is too large, or is not one plain YAML mapping.
    """
    file = one_line(str(path))
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ScenarioError(file, None, None, "is not a regular file; give a YAML file or a folder")
        with path.open("rb") as stream:
            content = stream.read(SIZE_LIMIT_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise ScenarioError(file, None, None, f"cannot be read: {reason}") from error
    if len(content) > SIZE_LIMIT_BYTES:
        raise ScenarioError(file, None, None, f"is larger than {SIZE_LIMIT_BYTES // 1024} KiB, no scenario needs that")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        message = f"is not UTF-8 (byte 0x{content[error.start]:02x}); save it as UTF-8"
        raise ScenarioError(file, line, None, message) from error
    return parse_document(text, file)


def parse_document(text: str, file: str) -> Document:
    """Parse the text of a scenario file; raises :class:`ScenarioError` as :func:`read_document` does."""
    builder = _Builder(file)
    data = builder.whole(_events(text, file), "is empty; it must hold scenario, question, task and model")
    if not isinstance(data, dict):
        raise ScenarioError(file, builder.line, None, "must be a mapping of keys to values, such as `task: train`")
    return Document(file, data, builder.lines)


def parse_value(text: str, file: str) -> Any:
    """Parse a single YAML value, as ``--set KEY=VALUE`` gives it; raises :class:`ScenarioError`."""
    return _Builder(file).whole(_events(text, file), "is empty; write a value after the =, as in adapter.rank=16")


def _events(text: str, file: str) -> Iterator[Any]:
    try:
        yield from YAML(typ="safe", pure=True).parse(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else mark.line + 1
        problem = one_line(" ".join(str(error.problem or error.context or "cannot be parsed").split()))
        raise ScenarioError(file, line, None, f"is not YAML: {problem}") from error
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        character = error.character if isinstance(error.character, int) else ord(error.character)
        raise ScenarioError(
            file, line, None, f"holds the unprintable character U+{character:04X}; remove it"
        ) from error
    except ScenarioError:
        raise
    # The parser leaks what its own code meets in malformed text: ValueError, IndexError, AttributeError, ...
    except Exception as error:
        problem = one_line(" ".join(str(error).split()))[:120]
        raise ScenarioError(file, None, None, f"is not YAML: {problem or type(error).__name__}") from error


class _Builder:
    """Plain data from events. Nesting follows Python's stack, which the depth limit keeps shallow."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[KeyPath, int] = {}
        self.line: int | None = None

    def whole(self, events: Iterator[Any], if_empty: str) -> Any:
        documents: list[Any] = []
        for event in events:
            if isinstance(event, DocumentStartEvent):
                if documents:
                    raise self.error(event, (), "starts a second document; put each scenario into a file of its own")
                first = next(events)
                self.line = self.lines[()] = first.start_mark.line + 1
                documents.append(self.node(first, events, ()))
        if not documents:
            raise ScenarioError(self.file, None, None, if_empty)
        return documents[0]

    def error(self, event: Any, path: KeyPath, message: str) -> ScenarioError:
        return ScenarioError(self.file, event.start_mark.line + 1, spell(path), message)

    def node(self, event: Any, events: Iterator[Any], path: KeyPath) -> Any:
        if isinstance(event, AliasEvent):
            raise self.error(event, path, f"aliases (*{one_line(event.anchor)}) are not supported; write the value out")
        if event.anchor is not None:
            raise self.error(event, path, f"anchors (&{one_line(event.anchor)}) are not supported; write values out")
        if event.tag is not None:
            raise self.error(event, path, f"tags ({one_line(str(event.tag))}) are not supported; write a plain value")
        if len(path) > _DEPTH_LIMIT:
            raise self.error(event, path[:3], f"is nested more than {_DEPTH_LIMIT} deep; no key needs that")
        if isinstance(event, MappingStartEvent):
            return self.mapping(events, path)
        if isinstance(event, SequenceStartEvent):
            return self.sequence(events, path)
        return self.scalar(event, path)

    def mapping(self, events: Iterator[Any], path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(event := next(events), MappingEndEvent):
            if not isinstance(event, ScalarEvent):
                raise self.error(event, path, "a key must be a plain name, not a list or a mapping")
            key = self.node(event, events, path)
            if not isinstance(key, str):
                raise self.error(event, path, f"a key must be a name, not {shown(key)}")
            here = (*path, key)
            if key in values:
                raise self.error(event, here, f"is given twice, first in line {self.lines[here]}; keep one")
            self.lines[here] = event.start_mark.line + 1
            values[key] = self.node(next(events), events, here)
        return values

    def sequence(self, events: Iterator[Any], path: KeyPath) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := next(events), SequenceEndEvent):
            here = (*path, len(values))
            self.lines[here] = event.start_mark.line + 1
            values.append(self.node(event, events, here))
        return values

    def scalar(self, event: Any, path: KeyPath) -> Any:
        text: str = event.value
        allowed = "\n\t" if path == ("question",) else ""
        strange = next((c for c in text if not c.isprintable() and c not in allowed), None)
        if strange is not None:
            raise self.error(event, path, f"holds the unprintable character U+{ord(strange):04X}; remove it")
        if not event.implicit[0]:
            return text
        if _NULL.fullmatch(text):
            return None
        if _TRUE.fullmatch(text):
            return True
        if _FALSE.fullmatch(text):
            return False
        if _INTEGER.fullmatch(text):
            if len(text) > _DIGITS_LIMIT:
                raise self.error(event, path, f"{shown(text)} has more than {_DIGITS_LIMIT} digits")
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        if _NOT_FINITE.fullmatch(text) or (_FLOAT.fullmatch(text) and not math.isfinite(float(text))):
            raise self.error(event, path, f"{shown(text)} is not a finite number")
        return float(text) if _FLOAT.fullmatch(text) else text
