"""Reading results files: JSON Lines of environments and records. A reader trusts nothing, for files are sent around."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from lorabench.case import Case
from lorabench.environment import Environment
from lorabench.errors import ResultsError
from lorabench.record import FINISHED, SCHEMA, Record

MAX_LINE_BYTES = 16 << 20
"""A record is a few kilobytes; a longer line is not one."""
_MAX_INTEGER = 2**63 - 1
_QUOTED_CHARACTERS = 80

_RECORD = TypeAdapter(Record)
_ENVIRONMENT = TypeAdapter(Environment)
_CASE = TypeAdapter(Case)

Encode = Callable[[Any], str | bytes]
Take = Callable[[Mapping[str, Any]], None]
"""Takes a line's object; what it raises as :class:`MalformedError` is told with the line."""
Identity = tuple[str, str, int, int, str | None]
T = TypeVar("T")


@dataclass(frozen=True)
class Results:
    """What was read. ``environments`` by id; ``records`` in the order of the files; ``warnings`` one line each.

    ``path`` is the file, where it was one.
    """

    environments: dict[str, Environment] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    path: Path | None = field(default=None, compare=False)

    def latest(self) -> list[Record]:
        """One record for each identity: the last, in the place where the identity first came up, with all their names.

        What was predicted for a device does not replace what was measured on it.
        """
        latest: dict[tuple[Identity, str], Record] = {}
        for record in self.records:
            what = (record.identity, record.source)
            earlier = latest.get(what)
            latest[what] = (
                record
                if earlier is None
                else record.known_as((named.name, named.case) for named in earlier.in_each_scenario())
            )
        return list(latest.values())

    def finished(self) -> set[Identity]:
        """Identities that a resumed run need not repeat."""
        return {record.identity for record in self.latest() if record.status in FINISHED}


class MalformedError(Exception):
    """What is wrong with a line, or with one of its keys; who reads it adds where it stands."""


def read_results(*paths: Path, also: Mapping[str, Take] | None = None) -> Results:
    """Reads results files one after the other, as if they were one. A torn last line is skipped with a warning.

    ``also`` takes lines of further types, by type: a baseline has tolerances.

    Raises:
        ResultsError: a file cannot be read or has no environment, a line is not a valid record or environment, a
            record has a newer schema than this version knows or names an environment that no file has.
    """
    results = Results(path=paths[0] if len(paths) == 1 else None)
    for path in paths:
        try:
            with path.open("rb") as file:
                read_stream(file, str(path), results, also)
        except OSError as error:
            raise ResultsError(f"{path}: cannot be read: {error.strerror}") from None
    known = results.environments
    for record in results.records:
        if record.environment not in known:
            raise ResultsError(
                f"{_names(paths)}: record {_quote(record.name)} names environment {_quote(record.environment)}, "
                "which no line describes: read it together with the file that has it"
            )
    return results


def read_stream(file: BinaryIO, name: str, results: Results, also: Mapping[str, Take] | None = None) -> int:
    """Adds what ``file`` holds to ``results``. Returns the length of its sound part: what follows is a torn line.

    Raises:
        ResultsError: as :func:`read_results`, with ``name`` and the line.
    """
    sound_bytes, number, environments = 0, 0, 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        try:
            if len(line) > MAX_LINE_BYTES:
                raise MalformedError(f"longer than {MAX_LINE_BYTES >> 20} MiB: not a line of a results file")
            if line.strip():
                environments += _read_line(line, results, also or {})
        except _NotJsonError as error:
            if not line.endswith(b"\n"):
                results.warnings.append(f"{name}:{number}: the last line is torn (a run was killed) and was skipped")
                break
            raise ResultsError(f"{name}:{number}: {error}") from None
        except MalformedError as error:
            raise ResultsError(f"{name}:{number}: {error}") from None
        sound_bytes += len(line)
    if environments == 0:
        raise ResultsError(f"{name}: no environment line: not a results file of lorabench, or only a part of one")
    return sound_bytes


def begins_as_results(file: BinaryIO) -> bool:
    """Whether the first line of ``file`` is a results file's, whatever version wrote it and whatever follows."""
    try:
        data = _parse(file.readline(MAX_LINE_BYTES + 1))
    except MalformedError:
        return False
    return isinstance(data, dict) and data.get("type") in ("environment", "record")


def record_from_dict(data: Mapping[str, Any]) -> Record:
    """The inverse of :meth:`Record.to_dict`, for data that may be anything.

    Raises:
        MalformedError: in one line, which key is wrong and why.
    """
    return _record(data, _to_json)


def _record(data: Mapping[str, Any], encode: Encode) -> Record:
    latency = data.get("latency")
    if isinstance(latency, dict) and "tokens_per_s" in latency:
        others = {name: timing for name, timing in latency.items() if name != "tokens_per_s"}
        data = {**data, "latency": others, "tokens_per_s": latency["tokens_per_s"]}
    record = _validated(_RECORD, data, encode)
    _validated(_CASE, record.case, encode, "case")
    for named in record.in_each_scenario()[1:]:
        _validated(_CASE, named.case, _to_json, "also")
    return record


class _NotJsonError(MalformedError):
    pass


def _read_line(line: bytes, results: Results, also: Mapping[str, Take]) -> bool:
    """Adds the line's record or environment, or gives it to who takes its type; True for an environment."""
    data = _parse(line)
    if not isinstance(data, dict):
        raise MalformedError("not a JSON object: a line is an environment or a record")
    kind = data.get("type")
    if kind == "environment":
        environment = _validated(_ENVIRONMENT, data, _parsed_to_json)
        results.environments[environment.id] = environment
        return True
    if isinstance(kind, str) and kind in also:
        also[kind](data)
        return False
    if kind != "record":
        raise MalformedError(f"type: {_quote(kind)} is neither environment nor record")
    schema = data.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise MalformedError(f"schema: {schema} is newer than {SCHEMA}, the newest known here: upgrade lorabench")
    results.records.append(_record(data, _parsed_to_json))
    return False


def _parse(line: bytes) -> Any:
    """The line's value. Integers fit into 64 bits; a fraction that no float can hold is infinite."""
    try:
        # An editor may have put a byte order mark before the first line, and files are joined.
        text = line.decode("utf-8-sig")
        # No function for fractions: called for each of a million samples, it takes as long as all else in reading.
        return json.loads(text, parse_constant=_refuse_constant, parse_int=_bounded_integer)
    except UnicodeDecodeError:
        raise _NotJsonError("not UTF-8: a results file is UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise _NotJsonError(f"not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise MalformedError("nested too deeply: not a line of a results file") from None


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedError(f"{name} is not JSON: a value that is not known is null")


def _bounded_integer(text: str) -> int:
    # By length first: converting millions of digits takes minutes, and Python refuses it with an error of its own.
    if len(text) > 20 or abs(int(text)) > _MAX_INTEGER:
        raise MalformedError(f"the number {_quote(text)} is out of range")
    return int(text)


def _parsed_to_json(data: Any) -> str | bytes:
    """For what was parsed, a quicker encoder, which writes infinity and fails at half a surrogate pair."""
    try:
        text = to_json(data)
    except PydanticSerializationError:
        return _to_json(data)
    return _to_json(data) if b"Infinity" in text else text


def _to_json(data: Any) -> str:
    try:
        return json.dumps(data, allow_nan=False)
    except ValueError:
        raise MalformedError("a number is out of range: JSON has no infinity and no NaN") from None
    except (TypeError, RecursionError) as error:
        raise MalformedError(f"not JSON: {_printable(str(error))}") from None


def _validated(adapter: TypeAdapter[T], data: Any, encode: Encode, where: str = "") -> T:
    text = encode(data)
    try:
        # From JSON, where pydantic's strict mode takes a list for a tuple, but no string for a number.
        return adapter.validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise MalformedError(_why_unreadable(data)) from None
        key = ".".join(str(part) for part in ((where,) if where else ()) + first["loc"])
        raise MalformedError(f"{_printable(key)}: {_printable(first['msg'])}") from None


def _why_unreadable(data: Mapping[str, Any]) -> str:
    """What pydantic cannot read of JSON that was written here: text that only an escape can spell, and depth."""
    for key, value in data.items():
        try:
            json.dumps({key: value}, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return f"{_printable(key)}: holds half a surrogate pair: a results file is UTF-8 text"
    return "nested too deeply: not a line of a results file"


def _printable(text: str) -> str:
    cut = text if len(text) <= 2 * _QUOTED_CHARACTERS else text[: 2 * _QUOTED_CHARACTERS] + "..."
    return "".join(character if character.isprintable() else "?" for character in cut)


def _quote(value: Any) -> str:
    text = str(value)
    return repr(text if len(text) <= _QUOTED_CHARACTERS else text[:_QUOTED_CHARACTERS] + "...")


def _names(paths: tuple[Path, ...]) -> str:
    return ", ".join(str(path) for path in paths)
