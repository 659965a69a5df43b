"""Architectures and GPU cards as plain data. Imports no torch: ``list`` validates names against it."""

from lorabench.catalog.cards import CARDS, COMPARED, DEFAULT_CARD, Card, find_card
from lorabench.catalog.families import FAMILIES, Family
from lorabench.catalog.lookup import Model, architecture, describe
from lorabench.catalog.presets import INSTALL_PRETRAINED, PRESETS, Preset

__all__ = [
    "CARDS",
    "COMPARED",
    "DEFAULT_CARD",
    "FAMILIES",
    "INSTALL_PRETRAINED",
    "PRESETS",
    "Card",
    "Family",
    "Model",
    "Preset",
    "architecture",
    "describe",
    "find_card",
]
