"""What a search for the largest value comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

StoppedBy = Literal["memory", "limit", "failed"]


@dataclass(frozen=True)
class Answer:
    """The largest value of ``over`` that fits ``gpu``, for one combination of a scenario's other axes.

    ``largest`` is None where the smallest value does not fit, or where its prediction failed. ``stopped_by`` says what
    ended the search: memory, a limit of the model or of the search, or a prediction that failed; ``reason`` says it in
    words. ``usable_bytes`` is what the card leaves beside the CUDA context, ``margin_bytes`` what was kept free of it.
    At ``largest`` the allocator held ``reserved_bytes`` at most, ``headroom_bytes`` less than what is usable: little
    where it filled the card with cache because it could. ``predictions`` has each value that was tried, whether it
    fitted, and the seconds it took.
    """

    name: str
    scenario: str
    case: Mapping[str, Any]
    gpu: str
    over: str
    largest: int | None
    stopped_by: StoppedBy
    reason: str
    usable_bytes: int
    margin_bytes: int
    reserved_bytes: int | None
    headroom_bytes: int | None
    peak_allocated_bytes: int | None
    assumptions: tuple[str, ...]
    predictions: tuple[Mapping[str, Any], ...]
    wall_s: float
    type: Literal["fit"] = "fit"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)
