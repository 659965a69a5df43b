"""``--margin``: room to keep free on a card, as a size or as a share."""

from __future__ import annotations

import re

from lorabench.errors import InputError
from lorabench.wording import one_line

_UNITS = {"b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "kb": 10**3, "mb": 10**6, "gb": 10**9}
# Nothing is nothing in every unit; another number without one could be bytes, GiB or percent.
_FORM = re.compile(r"\s*(?:(\d+(?:\.\d+)?)\s*(%|[a-z]+)|0(?:\.0+)?)\s*", re.IGNORECASE | re.ASCII)


def margin_bytes(text: str, usable_bytes: int) -> int:
    """The bytes that ``text`` means: ``2GiB``, ``512MB``, ``1000000B``, or ``5%`` of ``usable_bytes``; ``0`` is none.

    Raises:
        InputError: it is neither, or leaves nothing.
    """
    found = _FORM.fullmatch(text)
    unit = (found.group(2) or "b").lower() if found else None
    if found is None or (unit != "%" and unit not in _UNITS):
        raise InputError(
            f"--margin {one_line(text)[:40]}: a size as in 2GiB or 500MB or a share as in 5% would be right"
        )
    number = float(found.group(1) or 0)
    # Compared before it is made an integer: of hundreds of digits it is infinite.
    margin = usable_bytes * number / 100 if unit == "%" else number * _UNITS[str(unit)]
    if margin >= usable_bytes:
        raise InputError(
            f"--margin {one_line(text)[:40]}: nothing would be left of the {usable_bytes / 2**30:.1f} GiB that are "
            "usable"
        )
    return int(margin)
