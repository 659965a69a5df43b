"""The claims of the guide, tested on records: :func:`judge` gives the verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabench.analysis.claims.claim import Claim, Verdict
    from lorabench.results import Results

__all__ = ["judge"]


def judge(results: Sequence[Results], claims: Sequence[Claim] | None = None) -> list[Verdict]:
    """See :func:`lorabench.analysis.claims.judging.judge`; imported here, for it needs scipy and statsmodels."""
    from lorabench.analysis.claims import judging

    return judging.judge(results, claims)
