"""The report as Markdown: what the page says, with figures linked, for a pull request or a wiki."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lorabench import __version__
from lorabench.report.page import caveats
from lorabench.report.page.cards import MEANINGS
from lorabench.report.page.quantities import Table, number
from lorabench.report.page.view import View
from lorabench.wording import one_line

# CommonMark section 2.4: punctuation after a backslash stands for itself. An underscore matters at a word's end.
_SPECIAL = re.compile(r"[\\`*\[\]<>|~$&#!]|\b_|_\b|(?<!\w)_|_(?!\w)")


def markdown(view: View) -> str:
    return (
        _templates()
        .get_template("report.md")
        .render(view=view, meanings=MEANINGS, most_caveats=caveats.MOST, version=__version__)
    )


@cache
def _templates() -> Environment:
    made = Environment(
        loader=PackageLoader("lorabench.report"),
        # HTML's escaping would show its entities in code; see escaped.
        autoescape=False,
        finalize=_finalized,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["number"] = number
    made.filters["code"] = code
    made.filters["rows"] = rows
    # For names that the report itself made, and for what was escaped already.
    made.filters["plain"] = made.filters["markup"] = Markup
    return made


def _finalized(value: Any) -> Any:
    return value if isinstance(value, Markup) else escaped(str(value))


def escaped(text: str) -> str:
    """``text`` as Markdown that shows it, whatever is in it, on one line."""
    return _SPECIAL.sub(r"\\\g<0>", one_line(text))


def code(text: str) -> Markup:
    """``text`` as a code span, in more backticks than it has in a row."""
    line = one_line(text).replace("|", "\\|")
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return Markup(f"{fence}{pad}{line}{pad}{fence}")


def rows(table: Table) -> Markup:
    """A table of a finding."""
    heads = [
        escaped(f"{column.heading} ({column.unit})" if column.unit else column.heading) for column in table.columns
    ]
    rules = ["---:" if column.numeric else "---" for column in table.columns]
    body = [[escaped(cell) for cell in row] for row in table.rows]
    return Markup("\n".join(f"| {' | '.join(line)} |" for line in [heads, rules, *body]))
