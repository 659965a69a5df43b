"""Draws how far off each method's peaks are: a line a method, a mark a case."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.ticker import FuncFormatter

from lorabench.report.page.canvas import Drawn, legend, new_figure, render, styled
from lorabench.report.page.estimated import Strip
from lorabench.report.page.palette import MUTED, SERIES
from lorabench.report.page.quantities import number

_WIDTH_IN = 4.2
_LINEAR_TO = 0.1
"""%: nearer to zero the axis is linear, beyond it goes by powers of ten; errors are 0.001% of one, 400% of another."""
_ROOM = 1.6
"""Beyond the farthest mark, as a factor."""
_DECADES = (1.0, 10.0, 100.0, 1000.0, 10_000.0)


def draw_estimates(name: str, strips: Sequence[Strip]) -> Drawn:
    """``strips`` from top to bottom; marks of dense cases lie above those of quantized ones."""
    errors = [100 * error for one in strips for error in (*one.dense, *one.quantized)]
    low, high = (max([_DECADES[0], *(sign * error for error in errors)]) * _ROOM for sign in (-1, 1))
    with styled():
        figure = new_figure(_WIDTH_IN, 1.15 + 0.42 * len(strips))
        axes = figure.add_subplot()
        for label, words, marker, colour, offset in (
            ("dense", "fp32, fp16, bf16", "o", SERIES[0], -0.16),
            ("quantized", "int8, nf4", "s", SERIES[1], 0.16),
        ):
            points = [
                (100 * error, place + offset) for place, one in enumerate(strips) for error in getattr(one, label)
            ]
            if points:
                x, y = zip(*points, strict=True)
                axes.plot(x, y, marker, color=colour, markersize=4.2, alpha=0.6, mew=0, label=words)
        axes.axvline(0, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)), zorder=0.5)
        axes.set_xscale("symlog", linthresh=_LINEAR_TO, linscale=0.5)
        axes.set_xlim(-low, high)
        below = [-power for power in reversed(_DECADES) if power <= low]
        axes.set_xticks([*below, 0.0, *(power for power in _DECADES if power <= high)])
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        axes.minorticks_off()
        axes.set_yticks(range(len(strips)), [one.name for one in strips])
        axes.set_ylim(len(strips) - 0.5, -0.5)
        figure.supxlabel("error of the peak, % of what was measured", x=0.99, ha="right", fontsize=9.0, color=MUTED)
        axes.grid(visible=True, axis="x")
        axes.tick_params(length=0)
        axes.spines["bottom"].set_visible(False)
        legend(figure, axes, _WIDTH_IN)
        return render(figure, name)
