"""All claims, in the guide's order."""

from __future__ import annotations

from lorabench.analysis.claims.claim import Claim

CLAIMS: tuple[Claim, ...] = ()
