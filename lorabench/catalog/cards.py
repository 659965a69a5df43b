"""GPU cards and the memory that their drivers report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lorabench.errors import InputError
from lorabench.wording import did_you_mean


@dataclass(frozen=True)
class GpuCard:
    """A card and the total memory that its driver (R510 or newer) reports, ECC at its default; nvidia-smi shows it.

    CUDA can use 0.5 to 2% less: the driver keeps a part and each process has a context.
    """

    name: str
    memory_total_bytes: int


_MIB = 1 << 20

GPU_CARDS: Mapping[str, GpuCard] = {
    card.name.lower(): card
    for card in (
        GpuCard("T4", 15_360 * _MIB),
        GpuCard("V100-16GB", 16_384 * _MIB),
        GpuCard("V100-32GB", 32_768 * _MIB),
        GpuCard("RTX-3090", 24_576 * _MIB),
        GpuCard("RTX-4090", 24_564 * _MIB),
        GpuCard("RTX-5090", 32_607 * _MIB),
        GpuCard("L4", 23_034 * _MIB),
        GpuCard("A10", 23_028 * _MIB),
        GpuCard("A100-40GB", 40_960 * _MIB),
        GpuCard("A100-80GB", 81_920 * _MIB),
        GpuCard("L40S", 46_068 * _MIB),
        GpuCard("H100", 81_559 * _MIB),
        GpuCard("H200", 143_771 * _MIB),
        GpuCard("B200", 183_359 * _MIB),
    )
}


def gpu_card(name: str) -> GpuCard:
    """The card of that name, in any case, spaces as hyphens.

    Raises:
        InputError: there is no such card.
    """
    card = GPU_CARDS.get(name.strip().lower().replace(" ", "-"))
    if card is None:
        names = [known.name for known in GPU_CARDS.values()]
        raise InputError(f"unknown GPU {name!r}{did_you_mean(name, names)}; known are {', '.join(names)}")
    return card
