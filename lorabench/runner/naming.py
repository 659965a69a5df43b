"""Which scenarios ask for the case of a record: what several share runs once, under the name that came up first."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from lorabench.case import Case
from lorabench.record import Record

Asked = tuple[str, int, str | None]
Named = tuple[str, dict[str, Any]]


class Naming:
    """The names that ``cases`` have for each thing that is measured."""

    def __init__(self, cases: Iterable[Case]) -> None:
        self._asked: dict[Asked, list[Case]] = {}
        for case in cases:
            self._asked.setdefault((case.key, case.seed, case.group), []).append(case)

    def named(self, record: Record) -> Record:
        """``record`` with all scenarios in ``also`` whose cases it is of."""
        return record.known_as(_named(case) for case in self._asked.get((record.key, record.seed, record.group), ()))


def _named(case: Case) -> Named:
    # As it is read from a file, where there are no tuples.
    return case.name, json.loads(json.dumps(case.to_dict()))
