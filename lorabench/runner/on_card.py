"""Predictions for a named card: does the case fit, with how much to spare, and what is not known of that card.

Whether it fits is not read off a peak: the case runs against the allocator's model with the capacity that the card
leaves, which gives its cache back, tries again, and then fails, as the card's own allocator would. A case that fails
is run once more without a limit, to tell how much it lacks.
"""

from __future__ import annotations

from collections.abc import Callable

from lorabench.case import Case
from lorabench.catalog import COMPARED, Card
from lorabench.device.fake import FakeDevice
from lorabench.device.protocol import Device
from lorabench.errors import DeviceError
from lorabench.model.architecture import resolve_config
from lorabench.runner.job import Emit, Job
from lorabench.runner.telling import HeldBack

Run = Callable[[Job, Device, Emit], None]
"""Runs a job on a device and tells its events."""

_JUDGED = frozenset({"ok", "oom"})


def run_on_card(job: Job, device: FakeDevice, emit: Emit, run: Run) -> None:
    """Run the job's one case on ``device`` and put ``fits`` into its observations.

    ``fits`` is a mapping. ``gpu`` names the card; ``fits`` says whether the case ran to its end; ``usable_bytes`` is
    the capacity, what the card leaves beside the CUDA context; ``reserved_bytes`` is the most that the allocator held,
    loading included; ``headroom_bytes`` the difference, negative by what the case lacks; ``alloc_retries`` how often
    the cache was given back for want of room (then little headroom says little: the allocator had filled the card
    because it could); ``assumptions`` what was taken from an H100. Where the device comes with a capacity of its own,
    nobody asks how much is missing: ``reserved_bytes`` and ``headroom_bytes`` are None of a case that does not fit.

    Raises:
        DeviceError: how the case runs on that card is not known.
    """
    [case] = job.cases
    card = device.card
    refuse_unknown(card, case, trust_remote_code=job.trust_remote_code)
    capacity = device.capacity_bytes
    usable = card.usable_bytes(case.quantization) if capacity is None else capacity
    limited = FakeDevice(card, usable)
    held = HeldBack(emit)
    run(job, limited, held)
    result = held.result
    if result is None or result["status"] not in _JUDGED:
        if result is not None:
            emit(result)
        return
    fits = result["status"] == "ok"
    reserved: int | None = limited.highest_reserved_bytes()
    if not fits:
        reserved = None if capacity is not None else _needed_bytes(job, card, run)
    observed = {
        "gpu": card.name,
        "fits": fits,
        "usable_bytes": usable,
        "reserved_bytes": reserved,
        "headroom_bytes": None if reserved is None else usable - reserved,
        "alloc_retries": limited.alloc_retries(),
        "assumptions": assumptions(card),
    }
    emit({**result, "observations": {**result["observations"], "fits": observed}})


def _needed_bytes(job: Job, card: Card, run: Run) -> int | None:
    """What the case would reserve on a card without a limit; None where it comes to something that is not predicted."""
    unlimited = FakeDevice(card)
    silent = HeldBack(None)
    try:
        run(job, unlimited, silent)
    except DeviceError:
        return None
    ended_ok = silent.result is not None and silent.result["status"] == "ok"
    return unlimited.highest_reserved_bytes() if ended_ok else None


def refuse_unknown(card: Card, case: Case, *, trust_remote_code: bool = False) -> None:
    """Refuse a case whose kernels on ``card`` are others than those that were audited for an H100.

    Raises:
        DeviceError: with what would be right.
    """
    capability = ".".join(map(str, card.compute_capability))
    if not card.has_bf16 and _computes_in_bf16(case):
        raise DeviceError(
            f"{card.name} (compute capability {capability}) has no bf16 tensor cores, and what libraries do there "
            "instead is not known: bf16 is not predicted for it; fp16 and fp32 are"
        )
    if not card.has_flash_attention and case.attention not in ("eager", "sdpa"):
        raise DeviceError(
            f"{card.name} (compute capability {capability}) has no flash attention: attention eager and sdpa are "
            "predicted for it"
        )
    if case.quantization == "int8" and card.compute_capability < (7, 5):
        # bitsandbytes' documentation: LLM.int8() is for Turing and newer.
        raise DeviceError(f"{card.name} (compute capability {capability}) cannot run int8; it begins at 7.5 (Turing)")
    if case.task == "train" and case.attention != "eager" and card.compute_capability in _SMALL_SHARED_MEMORY:
        size = _head_size(case, trust_remote_code)
        if size > _LARGEST_HEAD_ON_SMALL:
            raise DeviceError(
                f"{card.name} (compute capability {capability}) has no backward pass of flash attention for heads of "
                f"{size}, more than {_LARGEST_HEAD_ON_SMALL}: attention eager is predicted for it"
            )


# check_requires_grad_and_head_dim_gt192_constraints_on_sm86_89_or_120 of
# aten/src/ATen/native/transformers/cuda/sdp_utils.cpp.
_SMALL_SHARED_MEMORY = frozenset({(8, 6), (8, 9), (12, 0)})
_LARGEST_HEAD_ON_SMALL = 192


def _computes_in_bf16(case: Case) -> bool:
    quantized = case.quantization in ("int8", "nf4")
    return case.autocast or "bf16" in (case.quantization, case.compute_dtype if quantized else "")


def _head_size(case: Case, trust_remote_code: bool) -> int:
    config = resolve_config(case, trust_remote_code=trust_remote_code).get_text_config()
    size = getattr(config, "head_dim", None) or getattr(config, "d_kv", None)
    return int(size or config.hidden_size // config.num_attention_heads)


def assumptions(card: Card) -> list[str]:
    """What a prediction for ``card`` takes from an H100 without knowing it to hold."""
    if card.name in COMPARED:
        return []
    before_ampere = (
        []
        if card.has_flash_attention
        else ["memory-efficient attention's kernels are told from their sources alone: of two that may fit, the larger"]
    )
    return [
        "what a CUDA context takes was measured on an H100",
        "kernels and what they take were audited for an H100; cuBLAS workspaces are the card's own",
        *before_ampere,
    ]
