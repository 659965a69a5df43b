"""The rows of a claim's table as a figure has them: in series, each case at a place of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorabench.analysis.claims.claim import Figure
from lorabench.case import format_value
from lorabench.report.page.canvas import shortened
from lorabench.report.page.quantities import Scale, is_number

MOST_BARS = 48
MOST_SERIES = 12
_SERIES_CHARACTERS = 40

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Series:
    """Points of one series, in the axis' unit; ``low`` and ``high`` are distances from ``y``."""

    name: str
    x: list[Any]
    y: list[float]
    low: list[float]
    high: list[float]

    @property
    def errors(self) -> list[list[float]] | None:
        return [self.low, self.high] if any(self.low) or any(self.high) else None


def told_apart(figure: Figure, rows: Rows) -> Rows:
    """Where bars of one series would lie on each other, another column tells their names apart, as far as one can.

    What no column tells apart, repeats of one case, is numbered.
    """
    places = _places(figure, rows)
    if len(set(places)) == len(places):
        return rows
    drawn = {figure.x, figure.y, figure.series, figure.low, figure.high}
    told = {
        column: len({(place, row[column]) for place, row in zip(places, rows, strict=True)})
        for column in rows[0]
        if column not in drawn and all(isinstance(row.get(column), str) for row in rows)
    }
    column = max(told, key=lambda name: told[name], default="")
    if told.get(column, 0) > len(set(places)):
        rows = [{**row, figure.x: f"{format_value(row[figure.x])} {row[column]}"} for row in rows]
    seen: Counter[Any] = Counter()
    numbered = []
    for row, place in zip(rows, _places(figure, rows), strict=True):
        seen[place] += 1
        name = f"{format_value(row[figure.x])} #{seen[place]}"
        numbered.append({**row, figure.x: name} if seen[place] > 1 else row)
    return numbered


def _places(figure: Figure, rows: Rows) -> list[Any]:
    """Where each row's bar stands."""
    return [(hashable(row[figure.x]), row.get(figure.series or "")) for row in rows]


def series_of(figure: Figure, rows: Rows, scale: Scale, drawn: Collection[str] = ()) -> list[Series]:
    """One for each value of the figure's ``series``, or for those ``drawn``, in the order of their first rows,
    :data:`MOST_SERIES` at most.

    An empty one after them says how many more there are.
    """
    made: dict[str, Series] = {}
    left_out: set[str] = set()
    for row in rows:
        label = "" if figure.series is None else format_value(row.get(figure.series))
        if label not in made and (len(made) == MOST_SERIES or (drawn and label not in drawn)):
            left_out.add(label)
            continue
        one = made.setdefault(label, Series(shortened(label, _SERIES_CHARACTERS), [], [], [], []))
        value = row[figure.y]
        one.x.append(row[figure.x])
        one.y.append(value / scale.divisor)
        for column, distances, sign in ((figure.low, one.low, -1), (figure.high, one.high, 1)):
            end = row.get(column) if column else None
            distances.append(max(0.0, sign * (end - value) / scale.divisor) if is_number(end) else 0.0)
    return [*made.values(), *([Series(_more(left_out), [], [], [], [])] if left_out else [])]


def categories_of(figure: Figure, rows: Rows) -> list[Any] | None:
    """The values of ``x`` that have no place on a number line, in order; None where they are numbers.

    Of more than :data:`MOST_BARS` the last says how many more there are.
    """
    values = list(dict.fromkeys(hashable(row[figure.x]) for row in rows))
    if figure.kind != "bars" and all(is_number(value) for value in values):
        return None
    return [*values[:MOST_BARS], *([_more(values[MOST_BARS:])] if values[MOST_BARS:] else [])]


def _more(left_out: Collection[Any]) -> str:
    return f"{len(left_out)} more in the table"


def hashable(value: Any) -> Any:
    """A value of ``x`` as a key: a list, as of target modules, is its words."""
    return value if isinstance(value, str | int | float | bool) else format_value(value)
