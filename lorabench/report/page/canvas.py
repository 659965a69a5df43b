"""Makes matplotlib's figures look alike and turns one into the files that a report has of it."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from lorabench.report.page.palette import INK, LINE, MUTED, PAPER
from lorabench.wording import one_line

STYLE: Mapping[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": LINE,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    # A case's name may hold a dollar sign, which would begin a formula.
    "text.parse_math": False,
    # Text stays text: it can be read aloud, searched, and takes the page's font.
    "svg.fonttype": "none",
    "figure.dpi": 72,
}
DOTS_PER_INCH = 144
_LABEL_CHARACTERS = 26
_THOUSANDS_FROM = 10_000
_MILLION = 1_000_000


@dataclass(frozen=True)
class Drawn:
    """One figure as it is written to disk."""

    svg: str
    png: bytes


@contextmanager
def styled() -> Iterator[None]:
    """Figures made inside look like the report's."""
    with mpl.rc_context():
        mpl.rcParams.update(STYLE)  # type: ignore[arg-type]
        yield


def new_figure(width_in: float, height_in: float) -> Figure:
    return Figure(figsize=(width_in, height_in))


def render(figure: Figure, name: str) -> Drawn:
    """``name`` seeds the ids in the SVG, so that several can stand on one page and a second run writes the same."""
    svg, png = io.StringIO(), io.BytesIO()
    with warnings.catch_warnings(), mpl.rc_context({"svg.hashsalt": name}):
        # A name in a script that the font lacks: the browser has another font, the PNG shows a box.
        warnings.filterwarnings("ignore", message="Glyph")
        # Once for both: a figure that has the engine itself finds its layout again each time it is saved.
        ConstrainedLayoutEngine().execute(figure)
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": "lorabench"})
        figure.savefig(png, format="png", dpi=DOTS_PER_INCH, metadata={"Software": "lorabench"})
    return Drawn(svg.getvalue(), png.getvalue())


def shortened(text: str, most: int = _LABEL_CHARACTERS) -> str:
    """One line of at most ``most`` characters, the middle left out: names differ at their ends."""
    text = one_line(text)
    if len(text) <= most:
        return text
    head = (most - 1) // 2
    return f"{text[:head]}…{text[-(most - 1 - head) :]}"


def shortened_apart(texts: Sequence[str], most: int = _LABEL_CHARACTERS) -> list[str]:
    """Each as :func:`shortened`, but on two lines where two that differ would look the same."""
    texts = [one_line(text) for text in texts]
    short = [shortened(text, most) for text in texts]
    told = {label: {text for text, one in zip(texts, short, strict=True) if one == label} for label in short}
    return [
        _on_two_lines(text, most) if len(told[label]) > 1 else label for text, label in zip(texts, short, strict=True)
    ]


def _on_two_lines(text: str, most: int) -> str:
    between_words = text.rfind(" ", 1, most + 1)
    end = between_words if between_words > 0 else most
    return f"{text[:end]}\n{shortened(text[end:].strip(), most)}"


def grid(axes: Axes, along: str) -> None:
    """Lines to read values by; ``along`` is the axis that the values lie on."""
    values = axes.xaxis if along == "x" else axes.yaxis
    farthest = max(map(abs, values.get_view_interval()))
    if farthest >= _THOUSANDS_FROM:
        values.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        if along == "x":
            # Long numbers beside each other.
            values.set_major_locator(MaxNLocator(4 if farthest < _MILLION else 2))
    else:
        axes.ticklabel_format(axis=along, useOffset=False)  # type: ignore[arg-type]
    axes.grid(visible=True, axis=along)  # type: ignore[arg-type]
    axes.tick_params(length=0)
    axes.spines["left" if along == "y" else "bottom"].set_visible(False)


def legend_columns(labels: Sequence[str], width_in: float) -> int:
    """As many as fit beside each other; letters are about 4.9 points wide."""
    longest = max(len(label) for label in labels)
    return max(1, min(len(labels), int(width_in * 72 / (longest * 4.9 + 30))))


def legend(figure: Figure, axes: Axes, width_in: float) -> None:
    """Above the axes, in as many columns as fit."""
    handles, labels = axes.get_legend_handles_labels()
    if not labels:
        return
    columns = legend_columns(labels, width_in)
    figure.legend(
        handles,
        labels,
        loc="outside upper left",
        ncols=columns,
        handlelength=1.2,
        columnspacing=1.2,
        borderaxespad=0.2,
        handletextpad=0.5,
    )
