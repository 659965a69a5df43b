"""The claims of the guide, tested on records: :func:`judge` gives the verdicts."""

from __future__ import annotations

from lorabench.analysis.claims.judging import judge

__all__ = ["judge"]
