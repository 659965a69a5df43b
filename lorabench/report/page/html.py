"""The page as one file: templates with autoescape, style and scripts inlined, no request to anywhere."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lorabench import __version__
from lorabench.report.page import caveats
from lorabench.report.page.cards import MEANINGS, MOST_ROWS
from lorabench.report.page.explorer import Packed, pack
from lorabench.report.page.quantities import number
from lorabench.report.page.svg import inlined
from lorabench.report.page.view import View

if TYPE_CHECKING:
    import pandas as pd

    from lorabench.report.page.canvas import Drawn

STYLES = ("vendor/tabulator.min.css", "style.css", "table.css", "print.css")
SEVERAL = "several.css"
"""What is added to :data:`STYLES` where records are of several devices."""
SCRIPTS = (
    *("vendor/tabulator.min.js", "vendor/plotly-basic.min.js"),
    *("scripts/theme.js", "scripts/unpack.js", "scripts/data.js", "scripts/state.js", "scripts/format.js"),
    "scripts/timeline.js",
    *("scripts/record.js", "scripts/explorer.js", "scripts/plots.js", "scripts/charts.js", "scripts/main.js"),
)
# A debugger would ask for the map; an offline page has none.
_SOURCE_MAP = re.compile(r"^//# sourceMappingURL=.*$|/\*# sourceMappingURL=.*?\*/", re.MULTILINE)


PAGE_BYTES = 7_600_000
"""Of 8 MB: where each of 20,000 rows has its record takes some of the rest."""
_FIGURE_BYTES = 2_500_000


def html(view: View, table: pd.DataFrame, figures: Mapping[str, Drawn]) -> str:
    """The page of ``view``; ``table`` is the frame of its records, ``figures`` go by the names that its cards and
    panels give. Whole records fill what room the rest leaves, figures what room they may take."""
    template = templates().get_template("page.html")
    values = {
        "view": view,
        "settings": {
            "claims": {card.claim.id: card.evidence for card in view.cards},
            "environments": {name: one.to_dict() for name, one in view.material.environments.items()},
        },
        "plots": _fitting(view, figures),
        "styles": [inline(name) for name in (*STYLES, *([SEVERAL] if view.several else []))],
        "scripts": [inline(name) for name in SCRIPTS],
        "meanings": MEANINGS,
        "most_rows": MOST_ROWS,
        "most_caveats": caveats.MOST,
        "version": __version__,
    }
    # Rendered twice: what is left for records is known once all else is there.
    bare = template.render(values, explorer=Packed("", (), (), 0))
    cited = frozenset(key for card in view.cards for key in card.evidence)
    explorer = pack(view.material, table, cited, PAGE_BYTES - len(bare.encode("utf-8", "backslashreplace")))
    return template.render(values, explorer=explorer)


def _fitting(view: View, figures: Mapping[str, Drawn]) -> dict[str, Markup]:
    """Figures as the page has them: those of verdicts before those of scenarios, as many as may be."""
    plots: dict[str, Markup] = {}
    total_bytes = 0
    for name, description in _descriptions(view):
        plot = inlined(figures[name].svg, name, description)
        total_bytes += len(plot)
        if total_bytes > _FIGURE_BYTES:
            break
        plots[name] = plot
    return plots


@cache
def templates() -> Environment:
    """The package's templates of pages: what a file says is escaped, a name that nobody gave is an error."""
    made = Environment(
        loader=PackageLoader("lorabench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["number"] = number
    return made


def inline(name: str) -> Markup:
    """A style sheet or script of the package, which is ours to trust."""
    text = files("lorabench.report").joinpath("templates", *name.split("/")).read_text(encoding="utf-8")
    return Markup(_SOURCE_MAP.sub("", text))


def _descriptions(view: View) -> Iterator[tuple[str, str]]:
    """Each figure's name, and what it shows, for those who cannot see it."""
    for part in ("primary", "others"):
        for card in view.cards:
            for scoped in (card.primary,) if part == "primary" else card.others:
                if scoped.figure is not None:
                    yield scoped.figure, f"{card.claim.title}: {scoped.verdict.finding.summary}"
    for one in view.estimated:
        yield one.figure, one.description
    for panel in view.panels:
        yield panel.figure, f"Memory and times of {panel.title}"
