"""All claims, in the guide's order."""

from __future__ import annotations

from collections.abc import Collection

from lorabench.analysis.claims.adapter_latency import MERGED_ADDS_NONE, UNMERGED_ADDS_LATENCY
from lorabench.analysis.claims.caching import CACHE_CONFLICTS_WITH_CHECKPOINTING
from lorabench.analysis.claims.checkpointing import CHECKPOINTING_CUTS_DYNAMIC
from lorabench.analysis.claims.checkpoints import ADAPTER_ONLY_CHECKPOINT, ADAPTER_RESTORES
from lorabench.analysis.claims.claim import Claim
from lorabench.analysis.claims.disabling import ADAPTERS_DISABLE
from lorabench.analysis.claims.dropout import DROPOUT_RATE
from lorabench.analysis.claims.growth import DYNAMIC_FOLLOWS_BATCH
from lorabench.analysis.claims.injection import INJECTION_REPLACES_AND_FREEZES, STARTS_AS_IDENTITY
from lorabench.analysis.claims.int8_schemes import INT8_SCHEMES
from lorabench.analysis.claims.learning import ALPHA_DECOUPLES_RANK
from lorabench.analysis.claims.memory import STATIC_FOLLOWS_PARAMETERS
from lorabench.analysis.claims.merging import MERGE_AND_UNLOAD, MERGE_FOLLOWS_MODE
from lorabench.analysis.claims.preparation import INT8_PREPARATION
from lorabench.analysis.claims.quantization import INT8_CUTS_STATIC
from lorabench.analysis.claims.ranks import RANK_SETS_WIDTH
from lorabench.analysis.claims.recomputation import CHECKPOINTING_RUNS_FORWARD_TWICE
from lorabench.analysis.claims.side_by_side import ADAPTERS_LIVE_SIDE_BY_SIDE, ADAPTERS_SWITCH
from lorabench.analysis.claims.targets import TARGET_MODULES
from lorabench.analysis.claims.trained import BIAS_MODES, TASK_TYPES
from lorabench.errors import InputError
from lorabench.wording import did_you_mean

CLAIMS: tuple[Claim, ...] = (
    RANK_SETS_WIDTH,
    ALPHA_DECOUPLES_RANK,
    DROPOUT_RATE,
    TARGET_MODULES,
    BIAS_MODES,
    TASK_TYPES,
    INT8_CUTS_STATIC,
    INT8_SCHEMES,
    INT8_PREPARATION,
    STATIC_FOLLOWS_PARAMETERS,
    DYNAMIC_FOLLOWS_BATCH,
    CHECKPOINTING_CUTS_DYNAMIC,
    CHECKPOINTING_RUNS_FORWARD_TWICE,
    CACHE_CONFLICTS_WITH_CHECKPOINTING,
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


def claims_named(ids: Collection[str]) -> tuple[Claim, ...]:
    """The claims with these ids, in the guide's order.

    Raises:
        InputError: an id that no claim has.
    """
    known = [claim.id for claim in CLAIMS]
    for unknown in (name for name in ids if name not in known):
        raise InputError(f"--claim {unknown!r}: no such claim{did_you_mean(unknown, known)}")
    return tuple(claim for claim in CLAIMS if claim.id in ids)
