"""The verdicts as a CSV file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from lorabench.analysis.claims.claim import Verdict

COLUMNS = (
    *("id", "verdict", "effect", "ci95", "n", "threshold", "unit", "scope", "condition", "summary"),
    *("evidence", "missing"),
)
"""Of ``Verdict.to_dict``; a list is written as JSON."""


def claims_csv(verdicts: Sequence[Verdict]) -> str:
    """A line for each verdict, those of all scopes."""
    text = io.StringIO()
    rows = [verdict.to_dict() for verdict in verdicts]
    columns = list(dict.fromkeys([*COLUMNS, *(name for row in rows for name in row)]))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
