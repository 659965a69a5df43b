"""By how many bytes a number may differ from the baseline: lines of the baseline file, none unless they are written.

``{"type": "tolerance", "metric": "memory.peak_allocated_bytes", "case": "rank[*", "bytes": 512, "reason": "..."}``
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorabench.analysis.gate.metrics import REQUESTED, WHOLE, phase_metric
from lorabench.record import Record
from lorabench.results import MalformedError
from lorabench.wording import did_you_mean, shown

_KEYS = ("type", "metric", "case", "bytes", "reason")
_PHASES_BEFORE, _PHASES_AFTER = phase_metric("\n").split("\n")
_NAMES = (*WHOLE, REQUESTED, phase_metric("*"), "*")


@dataclass(frozen=True)
class Tolerance:
    """``metric`` is a name of :mod:`lorabench.analysis.gate.metrics` or ``*``; ``case`` is a case's key, or its name in
    which each ``*`` stands for anything."""

    metric: str
    n_bytes: int
    case: str = "*"
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        data = {"type": "tolerance", "metric": self.metric, "case": self.case, "bytes": self.n_bytes}
        return data if self.reason is None else {**data, "reason": self.reason}

    def covers(self, metric: str, *records: Record) -> bool:
        """Whether it is for this number of any of ``records``, which are one case."""
        return fits(self.metric, metric) and any(
            self.case == record.key or any(fits(self.case, name) for name in record.names) for record in records
        )


def parse_tolerance(data: Mapping[str, Any]) -> Tolerance:
    """A tolerance from a line's object.

    Raises:
        MalformedError: a key is missing, unknown or has a wrong value.
    """
    for key in data:
        if key not in _KEYS:
            raise MalformedError(f"{shown(key)}: no key of a tolerance{did_you_mean(key, _KEYS)}: {', '.join(_KEYS)}")
    metric, case, n_bytes, reason = data.get("metric"), data.get("case", "*"), data.get("bytes"), data.get("reason")
    if not isinstance(metric, str) or not _known(metric):
        hint = did_you_mean(metric, _NAMES) if isinstance(metric, str) else ""
        raise MalformedError(f"metric: {shown(metric)} is not judged{hint}: {', '.join(_NAMES)} are")
    if not isinstance(case, str) or not case:
        raise MalformedError(f"case: {shown(case)}: a case's key, or its name, in which * stands for anything")
    # True is an int to Python.
    if not isinstance(n_bytes, int) or isinstance(n_bytes, bool) or n_bytes < 0:
        raise MalformedError(f"bytes: {shown(n_bytes)}: a whole number of bytes, 0 or more")
    if reason is not None and not isinstance(reason, str):
        raise MalformedError(f"reason: {shown(reason)}: text, or leave it out")
    return Tolerance(metric, n_bytes, case, reason)


def last_covering(tolerances: Sequence[Tolerance], metric: str, *records: Record) -> Tolerance | None:
    """The one that counts for this number: of several the last, so that a file goes from the general to the special."""
    return next((one for one in reversed(tolerances) if one.covers(metric, *records)), None)


def fits(pattern: str, text: str) -> bool:
    """Whether ``text`` is ``pattern``, in which each ``*`` stands for anything.

    Names hold brackets, which fnmatch reads as sets of characters; and a regular expression with many stars takes
    forever on a text that was made for it.
    """
    first, *others = pattern.split("*")
    if not others:
        return pattern == text
    if not text.startswith(first):
        return False
    *inner, last = others
    position = len(first)
    for part in inner:
        found = text.find(part, position)
        if found < 0:
            return False
        position = found + len(part)
    return len(text) - position >= len(last) and text.endswith(last)


def _known(metric: str) -> bool:
    if metric in _NAMES:
        return True
    phase = metric.removeprefix(_PHASES_BEFORE).removesuffix(_PHASES_AFTER)
    return metric == f"{_PHASES_BEFORE}{phase}{_PHASES_AFTER}" and phase.replace("_", "").isalnum()
