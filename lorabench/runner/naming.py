"""Which scenarios ask for the case of a record: what several share runs once, under the name that came up first."""

from __future__ import annotations

import json
from collections.abc import Iterable

from lorabench.case import Case
from lorabench.record import AlsoIn, Record

Asked = tuple[str, int, str | None]


class Naming:
    """The names that ``cases`` have for each thing that is measured."""

    def __init__(self, cases: Iterable[Case]) -> None:
        self._names: dict[Asked, dict[str, AlsoIn]] = {}
        for case in cases:
            names = self._names.setdefault((case.key, case.seed, case.group), {})
            # As it is read from a file, where there are no tuples.
            axes = tuple((axis, json.loads(json.dumps(value))) for axis, value in case.axes)
            names.setdefault(case.name, AlsoIn(case.scenario, case.name, axes))

    def named(self, record: Record) -> Record:
        """``record`` with all names that the cases have for it."""
        return record.known_as(self._names.get((record.key, record.seed, record.group), {}).values())
