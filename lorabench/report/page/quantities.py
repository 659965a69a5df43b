"""Numbers for reading: a unit with each, as many digits as tell something, thousands apart."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorabench.case import format_value

ABSENT = "–"  # noqa: RUF001
"""Stands where there is no value."""
_DIGITS = 4

_BYTES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))
_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_TIMES_UNITS = frozenset({"ratio", "x", "×", "times"})  # noqa: RUF001
_SIZED_UNITS = frozenset({"bytes", "B", "s", "seconds"})
# A unit of a claim may go on to say what is measured, "ms a switch": this is where the unit ends.
_UNIT = re.compile(r"(?P<unit>%|ms|µs|s|MiB|GiB|bytes|B|×|x)(?:\s+(?P<of>.+))?$")  # noqa: RUF001


@dataclass(frozen=True)
class Scale:
    """``value / divisor`` is in ``unit``; an empty unit where a column has none."""

    divisor: float
    unit: str


PLAIN = Scale(1.0, "")


def is_number(value: Any) -> bool:
    """Whether ``value`` is to be aligned and computed with; a flag is not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def scale_of(column: str, values: Iterable[Any]) -> Scale:
    """The unit in which a column of bytes or seconds reads best; by its name, as everywhere in a record."""
    largest = max((abs(value) for value in values if is_number(value) and math.isfinite(value)), default=0.0)
    if is_bytes(column):
        return _fitting(_BYTES, largest)
    return _fitting(_SECONDS, largest) if is_seconds(column) else PLAIN


def is_bytes(column: str) -> bool:
    return column.endswith(("_bytes", " bytes")) or column == "bytes"


def is_seconds(column: str) -> bool:
    return column.endswith("_s") and not column.endswith("_per_s")


def _fitting(steps: Sequence[tuple[float, str]], largest: float) -> Scale:
    for divisor, unit in steps:
        if largest >= divisor:
            return Scale(divisor, unit)
    divisor, unit = steps[-1]
    return Scale(divisor, unit)


def number(value: float, digits: int = _DIGITS) -> str:
    """At most ``digits`` that count, integers whole, thousands apart: ``1,234``, ``0.03125``, ``1.2e-08``."""
    if not math.isfinite(value):
        return ABSENT
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 10 ** (digits + 3)):
        return _minus(f"{int(value):,}")
    size = abs(value)
    if size < 1e-4 or size >= 1e9:
        return _minus(f"{value:.{digits - 2}e}")
    places = max(0, digits - 1 - math.floor(math.log10(size)))
    text = f"{value:,.{places}f}"
    return _minus(text.rstrip("0").rstrip(".") if "." in text else text)


def split_unit(unit: str) -> tuple[str, str]:
    """A claim's unit as the sign that follows a number, and what is measured: ``"% off the computed bytes"``.

    What divides one quantity by another has no sign, nor has what is counted: all of it says what is measured.
    """
    found = _UNIT.match(unit)
    if found and " / " not in unit:
        return found["unit"], found["of"] or ""
    return (unit, "") if unit in _TIMES_UNITS | _SIZED_UNITS else ("", unit)


def quantity(value: float | None, unit: str, digits: int = _DIGITS) -> str:
    """A claim's effect with its unit; bytes and seconds in the size that reads best."""
    if value is None:
        return ABSENT
    if unit in ("bytes", "B"):
        scale = _fitting(_BYTES, abs(value))
    elif unit in ("s", "seconds"):
        scale = _fitting(_SECONDS, abs(value))
    else:
        return _joined(number(value, digits), unit)
    return _joined(number(value / scale.divisor if scale.divisor != 1 else value, digits), scale.unit)


def interval(ends: Sequence[float] | None, unit: str) -> str:
    """Both ends with the unit they share, ``0.31 to 0.36 ×``."""  # noqa: RUF002
    if ends is None:
        return ABSENT
    low, high = ends
    column = {"bytes": "bytes", "B": "bytes", "s": "_s", "seconds": "_s"}.get(unit, "")
    scale = scale_of(column, ends)
    values = [end / scale.divisor if scale.divisor != 1 else end for end in (low, high)]
    return _joined(f"{number(values[0])} to {number(values[1])}", scale.unit or unit)


def _joined(text: str, unit: str) -> str:
    if unit in _TIMES_UNITS:
        return f"{text} ×"  # noqa: RUF001
    if not unit:
        return text
    return f"{text}%" if unit == "%" else f"{text} {unit}"


def _minus(text: str) -> str:
    return text.replace("-", "\u2212", 1) if text.startswith("-") else text


def heading(column: str) -> str:
    """A column's name in words: ``static_bytes`` is ``static``, ``median_s`` is ``median``; the unit is said apart."""
    for suffix in ("_bytes", " bytes"):
        column = column.removesuffix(suffix)
    if is_seconds(column):
        column = column.removesuffix("_s")
    return column.replace("tokens_per_s", "tokens/s").replace("_", " ")


@dataclass(frozen=True)
class Table:
    """Rows as text: a heading, a unit and an alignment for each column."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    left_out: int = 0


@dataclass(frozen=True)
class Column:
    heading: str
    unit: str
    numeric: bool


def table(rows: Sequence[Mapping[str, Any]], most: int) -> Table:
    """The first ``most`` of a finding's ``rows`` as text. Bytes are exact: so are the tests of claims on them."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns, texts = [], []
    for name in names:
        values = [row.get(name) for row in rows]
        scale = Scale(1.0, "B") if is_bytes(name) else scale_of(name, values)
        present = [value for value in values if value is not None]
        numeric = bool(present) and all(is_number(value) for value in present)
        columns.append(Column(heading(name), scale.unit, numeric))
        places = _places(values, scale) if numeric else None
        texts.append([cell(value, scale, places) for value in values[:most]])
    return Table(tuple(columns), tuple(zip(*texts, strict=True)), max(0, len(rows) - most))


def _places(values: Sequence[Any], scale: Scale) -> int | None:
    """Decimals that a whole column has, so that digits stand below digits; None where its values are too far apart."""
    sizes = [abs(value) / scale.divisor for value in values if value and math.isfinite(value)]
    if not sizes:
        return None
    if scale.divisor == 1 and all(isinstance(value, int) or value is None for value in values):
        return 0
    if max(sizes) / min(sizes) > 10**_DIGITS or min(sizes) < 10**-_DIGITS:
        return None
    needed = max(0, _DIGITS - 2 - math.floor(math.log10(min(sizes))))
    # No more than say something: 0.5, 0.25 need two.
    return next((n for n in range(needed) if all(math.isclose(round(size, n), size) for size in sizes)), needed)


def cell(value: Any, scale: Scale = PLAIN, places: int | None = None) -> str:
    """One value of a table, with ``places`` decimals where the column has so many."""
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if is_number(value):
        if places is not None and math.isfinite(value):
            return _minus(f"{value / scale.divisor if scale.divisor != 1 else value:,.{places}f}")
        return number(value if scale.divisor == 1 else value / scale.divisor)
    return value if isinstance(value, str) else format_value(value)
