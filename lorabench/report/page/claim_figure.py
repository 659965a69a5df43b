"""Draws a claim's table as its :class:`Figure` says."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Collection, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from lorabench.analysis.claims.claim import Figure
from lorabench.case import format_value
from lorabench.report.page.canvas import (
    Drawn,
    grid,
    legend,
    legend_columns,
    new_figure,
    render,
    shortened,
    shortened_apart,
    styled,
)
from lorabench.report.page.claim_series import Rows, Series, categories_of, hashable, series_of, told_apart
from lorabench.report.page.palette import INK, MARKERS, MUTED, SERIES
from lorabench.report.page.quantities import Scale, heading, is_number, number, scale_of

WIDTH_IN = 4.2
_LABELLED_BARS = 16
_SHORT_LABEL = 8
_LINE_IN = 0.17


def draw_claim(name: str, figure: Figure, rows: Rows, drawn: Collection[str] = ()) -> Drawn:
    """``rows`` without a value of ``y`` are left out, and all series but ``drawn``, if any; ``name`` is the file's."""
    rows = [row for row in rows if is_number(row.get(figure.y)) and row.get(figure.x) is not None]
    if figure.kind == "bars":
        rows = told_apart(figure, rows)
    categories = categories_of(figure, rows)
    if categories is not None:
        rows = [row for row in rows if hashable(row[figure.x]) in categories]
    scale = scale_of(figure.y, [row[figure.y] for row in rows])
    series = series_of(figure, rows, scale, drawn)
    with styled():
        if figure.kind == "bars":
            canvas = _bars(figure, series, categories, scale)
        else:
            canvas = _marks(figure, series, categories, scale)
        return render(canvas, name)


def _label(text: str, column: str, scale: Scale) -> str:
    """What an axis says: the claim's words or the column's, and the unit."""
    words = text or heading(column)
    return f"{words} ({scale.unit})" if scale.unit and scale.unit not in words else words


def _bars(figure: Figure, series: list[Series], categories: list[Any] | None, scale: Scale) -> Canvas:
    names = shortened_apart([format_value(value) for value in categories or []])
    lying = len(names) > 6 or max((len(name) for name in names), default=0) > _SHORT_LABEL
    bars = len(names) * len(series)
    height_in = _lying_height(bars, len(names)) if lying else 2.6
    drawn = new_figure(WIDTH_IN, height_in + _legend_height(series))
    axes = drawn.add_subplot()
    thickness = 0.78 / max(1, len(series))
    ends = [value + high for one in series for value, high in zip(one.y, one.high, strict=True)]
    for position, one in enumerate(series):
        offset = (position - (len(series) - 1) / 2) * thickness
        at = [(categories or []).index(hashable(value)) + offset for value in one.x]
        draw = axes.barh if lying else axes.bar
        colour = SERIES[position % len(SERIES)]
        draw(at, one.y, thickness * 0.9, color=colour, alpha=_strength(position), label=one.name or None)
        if one.errors:
            if lying:
                axes.errorbar(one.y, at, xerr=one.errors, fmt="none", ecolor=INK, elinewidth=1.1)
            else:
                axes.errorbar(at, one.y, yerr=one.errors, fmt="none", ecolor=INK, elinewidth=1.1)
        if bars <= _LABELLED_BARS:
            _write_values(axes, at, one.y, one.high, lying)
    positions = range(len(names))
    value_label, category_label = _label(figure.y_label, figure.y, scale), figure.x_label or heading(figure.x)
    room = 1.16 if bars <= _LABELLED_BARS else 1.05
    limits = (min(0.0, *ends) * 1.1, max([0.0, *ends]) * room) if ends else (0.0, 1.0)
    if lying:
        axes.set_yticks(positions, names)
        # Whole categories: one that lacks a series is not cut off at its name.
        axes.set_ylim(len(names) - 0.5, -0.5)
        _name_values_below(drawn, value_label)
        axes.set_xlim(*_open(limits))
    else:
        axes.set_xticks(positions, names)
        _name_values(axes, value_label)
        axes.set_xlabel(category_label)
        axes.set_ylim(*_open(limits))
    _refer(axes, figure.reference, scale, upright=lying)
    grid(axes, "x" if lying else "y")
    legend(drawn, axes, WIDTH_IN)
    return drawn


def _lying_height(marks: int, categories: int) -> float:
    """Inches for so many marks below each other, and a little room between the categories."""
    return 0.75 + max(0.6, 0.19 * marks + 0.14 * categories)


def _legend_height(series: Sequence[Series]) -> float:
    labels = [one.name for one in series if one.name]
    return _LINE_IN * math.ceil(len(labels) / legend_columns(labels, WIDTH_IN)) if labels else 0.0


def _open(limits: tuple[float, float]) -> tuple[float, float]:
    return limits if limits[1] > limits[0] else (limits[0], limits[0] + 1.0)


def _strength(position: int) -> float:
    """A second round through the colours is paler."""
    return 1.0 if position < len(SERIES) else 0.55


def _write_values(
    axes: Axes, at: Sequence[float], values: Sequence[float], highs: Sequence[float], lying: bool
) -> None:
    for place, value, high in zip(at, values, highs, strict=True):
        end = max(0.0, value + high)
        point = (end, place) if lying else (place, end)
        alignment: dict[str, Any] = {"va": "center"} if lying else {"ha": "center"}
        offset = (3, 0) if lying else (0, 2)
        axes.annotate(
            number(value, 3),
            point,
            xytext=offset,
            textcoords="offset points",
            fontsize=8,
            color=INK,
            **alignment,
        )


def _marks(figure: Figure, series: list[Series], categories: list[Any] | None, scale: Scale) -> Canvas:
    if categories is not None and figure.kind == "points":
        return _lying_marks(figure, series, categories, scale)
    drawn = new_figure(WIDTH_IN, 2.6 + _legend_height(series))
    axes = drawn.add_subplot()
    for position, one in enumerate(series):
        x = one.x if categories is None else [categories.index(hashable(value)) for value in one.x]
        order = sorted(range(len(x)), key=lambda index: x[index]) if figure.kind == "lines" else list(range(len(x)))
        axes.errorbar(
            [x[index] for index in order],
            [one.y[index] for index in order],
            yerr=one.errors and [[distances[index] for index in order] for distances in one.errors],
            linestyle="-" if figure.kind == "lines" else "none",
            **_look(position, one),
        )
    if categories is not None:
        axes.set_xticks(range(len(categories)), [shortened(format_value(value), 16) for value in categories])
    elif figure.log_x:
        _log_x(axes, sorted({value for one in series for value in one.x}))
    ends = [value + high for one in series for value, high in zip(one.y, one.high, strict=True)]
    if figure.reference is None and ends and min(ends) >= 0 and max(ends) > 0:
        # Bytes and seconds are read from zero, or a small difference looks large.
        axes.set_ylim(0, max(ends) * 1.08)
    axes.set_xlabel(figure.x_label or heading(figure.x))
    _name_values(axes, _label(figure.y_label, figure.y, scale))
    _refer(axes, figure.reference, scale, upright=False)
    grid(axes, "y")
    legend(drawn, axes, WIDTH_IN)
    return drawn


def _lying_marks(figure: Figure, series: list[Series], categories: list[Any], scale: Scale) -> Canvas:
    """Named cases below each other: their names need the room that a line has."""
    height_in = _lying_height(len(categories) * min(2, len(series)), len(categories))
    drawn = new_figure(WIDTH_IN, height_in + _legend_height(series))
    axes = drawn.add_subplot()
    apart = 0.6 / max(1, len(series))
    for position, one in enumerate(series):
        offset = (position - (len(series) - 1) / 2) * apart
        axes.errorbar(
            one.y,
            [categories.index(hashable(value)) + offset for value in one.x],
            xerr=one.errors,
            linestyle="none",
            **_look(position, one),
        )
    axes.set_yticks(range(len(categories)), shortened_apart([format_value(value) for value in categories]))
    axes.set_ylim(len(categories) - 0.45, -0.55)
    _name_values_below(drawn, _label(figure.y_label, figure.y, scale))
    _refer(axes, figure.reference, scale, upright=True)
    grid(axes, "x")
    legend(drawn, axes, WIDTH_IN)
    return drawn


def _name_values(axes: Axes, label: str) -> None:
    """Says what stands upwards on a line above it, where there is room and no head must be turned."""
    axes.set_title(textwrap.fill(label, 52), loc="left", fontsize=9.0, color=MUTED, pad=8)


def _name_values_below(drawn: Canvas, label: str) -> None:
    """To the right end, over the width of the figure: the axis is shorter by the names of the cases."""
    drawn.supxlabel(textwrap.fill(label, 52), x=0.99, ha="right", fontsize=9.0, color=MUTED)


def _look(position: int, one: Series) -> dict[str, Any]:
    return {
        "marker": MARKERS[position % len(MARKERS)],
        "color": SERIES[position % len(SERIES)],
        "alpha": _strength(position),
        "markersize": 4.2,
        "linewidth": 1.4,
        "elinewidth": 1.1,
        "label": one.name or None,
    }


def _log_x(axes: Axes, values: Sequence[float]) -> None:
    if not values or values[0] <= 0:
        return
    axes.set_xscale("log", base=2)
    if len(values) <= 12:
        # Labels that would run into each other: the one before stands for both.
        apart = [value for before, value in zip((0.0, *values), values, strict=False) if value > 1.4 * before]
        axes.set_xticks(apart, [number(round(value) if value > 10 else value, 3) for value in apart])
        axes.minorticks_off()


def _refer(axes: Axes, level: float | None, scale: Scale, upright: bool) -> None:
    if level is None:
        return
    draw = axes.axvline if upright else axes.axhline
    draw(level / scale.divisor, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)), zorder=2.5)
