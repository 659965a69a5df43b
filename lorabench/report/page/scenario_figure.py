"""Draws what a scenario's cases held and took: memory with its peak, the allocator's numbers, every timed sample."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from lorabench.record import Timing
from lorabench.report.page.canvas import Drawn, grid, new_figure, render, shortened, styled
from lorabench.report.page.palette import ALLOCATED, DEVICE_USED, DYNAMIC, INK, RESERVED, SERIES, STATIC
from lorabench.report.page.quantities import scale_of
from lorabench.report.page.scenarios import Row

_PANEL_IN = 2.9
_ROW_IN = 0.2
# Two settings and a list of target modules.
_LABEL_CHARACTERS = 40
_PEAK = "peak"


def draw_scenario(name: str, phases: Sequence[str], rows: Sequence[Row]) -> Drawn:
    """A line a case; panels for memory, for the allocator where the device has one, and for each of ``phases``."""
    has_memory = any(row.memory.static_bytes is not None for row in rows)
    has_allocator = any(row.memory.peak_reserved_bytes is not None for row in rows)
    panels = has_memory + has_allocator + len(phases)
    names = [shortened(row.label, _LABEL_CHARACTERS) for row in rows]
    longest = max(map(len, names))
    with styled():
        height_in = 0.95 + max(0.8, _ROW_IN * len(rows) * (1.7 if has_allocator else 1.0))
        figure = new_figure(_PANEL_IN * panels + 0.065 * longest, height_in)
        grids = list(figure.subplots(1, panels, sharey=True, squeeze=False)[0])
        grids[0].set_yticks(range(len(rows)), names)
        grids[0].invert_yaxis()
        grids[0].margins(y=0.02)
        if has_memory:
            _memory(grids.pop(0), rows)
        if has_allocator:
            _allocator(grids.pop(0), rows)
        for position, phase in enumerate(phases):
            _times(grids[position], phase, [row.timed[position] for row in rows])
        return render(figure, name)


def _memory(axes: Axes, rows: Sequence[Row]) -> None:
    scale = scale_of("_bytes", [row.memory.peak_allocated_bytes for row in rows])
    static = [(row.memory.static_bytes or 0) / scale.divisor for row in rows]
    dynamic = [(row.memory.dynamic_bytes or 0) / scale.divisor for row in rows]
    places = range(len(rows))
    axes.barh(places, static, 0.66, color=STATIC, label="static")
    axes.barh(places, dynamic, 0.66, left=static, color=DYNAMIC, label="dynamic")
    peaks = [
        (place, row.memory.peak_allocated_bytes)
        for place, row in enumerate(rows)
        if row.memory.peak_allocated_bytes is not None
    ]
    axes.scatter(
        [peak / scale.divisor for _, peak in peaks],
        [place for place, _ in peaks],
        marker="D",
        s=16,
        color=INK,
        zorder=3,
        label=_PEAK,
    )
    _finish(axes, f"allocated ({scale.unit})")


def _allocator(axes: Axes, rows: Sequence[Row]) -> None:
    kinds = [
        (column, label, colour)
        for column, label, colour in (
            ("peak_allocated_bytes", "allocated", ALLOCATED),
            ("peak_reserved_bytes", "reserved", RESERVED),
            # Of a prediction nobody knows it.
            ("device_used_bytes", "device used", DEVICE_USED),
        )
        if any(getattr(row.memory, column) is not None for row in rows)
    ]
    thickness = 0.78 / len(kinds)
    scale = scale_of("_bytes", [row.memory.device_used_bytes or row.memory.peak_reserved_bytes for row in rows])
    for position, (column, label, colour) in enumerate(kinds):
        values = [(getattr(row.memory, column) or 0) / scale.divisor for row in rows]
        offset = (position - (len(kinds) - 1) / 2) * thickness
        places = [place + offset for place in range(len(rows))]
        axes.barh(places, values, 0.92 * thickness, color=colour, label=label)
    _finish(axes, f"peaks ({scale.unit})")


def _times(axes: Axes, phase: str, timed: Sequence[Timing | None]) -> None:
    """One artist for all samples, one for all intervals: as many as there are cases would take seconds to draw."""
    there = [(place, one) for place, one in enumerate(timed) if one is not None]
    scale = scale_of("_s", [one.median_s for _, one in there])
    samples = [(sample / scale.divisor, place) for place, one in there for sample in one.samples_s]
    axes.plot(*zip(*samples, strict=True), "o", color=SERIES[5], markersize=3, alpha=0.75, mew=0, label="sample")
    places = [place for place, _ in there]
    low, high = ([one.ci95_s[end] / scale.divisor for _, one in there] for end in (0, 1))
    axes.hlines(places, low, high, color=INK, linewidth=1.6)
    axes.plot([one.median_s / scale.divisor for _, one in there], places, "|", color=INK, markersize=8, mew=1.6)
    axes.plot([], [], "-|", color=INK, linewidth=1.6, markersize=7, label="median, 95% interval")
    axes.set_xlim(left=0)
    _finish(axes, f"{phase} ({scale.unit})")


def _finish(axes: Axes, label: str) -> None:
    axes.set_xlabel(label)
    grid(axes, "x")
    handles, labels = axes.get_legend_handles_labels()
    # In the order of the bars; matplotlib would put lines and points first.
    order = sorted(range(len(labels)), key=lambda index: labels[index] == _PEAK)
    axes.legend(
        [handles[index] for index in order],
        [labels[index] for index in order],
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=3,
        handlelength=1,
        columnspacing=0.9,
        handletextpad=0.4,
        borderaxespad=0.2,
    )
