"""The verdicts as a CSV file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from lorabench.analysis.agreement import Agreement
from lorabench.analysis.claims.claim import Verdict

COLUMNS = (
    *("id", "verdict", "effect", "ci95", "n", "threshold", "unit", "scope", "condition", "summary"),
    *("evidence", "missing"),
)
"""Of ``Verdict.to_dict``; a list is written as JSON."""
AGREEMENT = ("predicted", "predicted_cases", "predicted_verdict", "measured_verdict")
"""Of a verdict on bytes: whether it is the same with predicted bytes, on the cases that have both."""


def claims_csv(verdicts: Sequence[Verdict], agreements: Sequence[Agreement] = ()) -> str:
    """A line for each verdict, those of all scopes; :data:`AGREEMENT` is empty where the cases were not predicted."""
    text = io.StringIO()
    known = {(one.claim.id, one.scope): one for one in agreements}
    rows = [{**verdict.to_dict(), **_agreement(known.get((verdict.claim.id, verdict.scope)))} for verdict in verdicts]
    columns = list(dict.fromkeys([*COLUMNS, *(name for row in rows for name in row), *AGREEMENT]))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _agreement(one: Agreement | None) -> dict[str, Any]:
    if one is None:
        return {}
    return dict(zip(AGREEMENT, (one.outcome, one.cases, one.predicted.verdict, one.measured.verdict), strict=True))


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
