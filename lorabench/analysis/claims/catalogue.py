"""All claims, in the guide's order."""

from __future__ import annotations

from lorabench.analysis.claims.adapter_latency import MERGED_ADDS_NONE, UNMERGED_ADDS_LATENCY
from lorabench.analysis.claims.checkpoints import ADAPTER_ONLY_CHECKPOINT, ADAPTER_RESTORES
from lorabench.analysis.claims.claim import Claim
from lorabench.analysis.claims.disabling import ADAPTERS_DISABLE
from lorabench.analysis.claims.injection import INJECTION_REPLACES_AND_FREEZES, STARTS_AS_IDENTITY
from lorabench.analysis.claims.merging import MERGE_AND_UNLOAD, MERGE_FOLLOWS_MODE
from lorabench.analysis.claims.side_by_side import ADAPTERS_LIVE_SIDE_BY_SIDE, ADAPTERS_SWITCH

CLAIMS: tuple[Claim, ...] = (
    INJECTION_REPLACES_AND_FREEZES,
    STARTS_AS_IDENTITY,
    MERGE_FOLLOWS_MODE,
    ADAPTER_ONLY_CHECKPOINT,
    ADAPTER_RESTORES,
    UNMERGED_ADDS_LATENCY,
    MERGED_ADDS_NONE,
    ADAPTERS_LIVE_SIDE_BY_SIDE,
    ADAPTERS_SWITCH,
    ADAPTERS_DISABLE,
    MERGE_AND_UNLOAD,
)
