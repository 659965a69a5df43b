"""Architectures and GPU cards as plain data. Imports no torch: ``list`` validates names against it."""

from lorabench.catalog.cards import GPU_CARDS, GpuCard, gpu_card
from lorabench.catalog.families import FAMILIES, Family
from lorabench.catalog.lookup import Model, architecture, describe
from lorabench.catalog.presets import PRESETS, Preset

__all__ = [
    "FAMILIES",
    "GPU_CARDS",
    "PRESETS",
    "Family",
    "GpuCard",
    "Model",
    "Preset",
    "architecture",
    "describe",
    "gpu_card",
]
