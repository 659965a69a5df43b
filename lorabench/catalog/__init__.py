"""Architectures as plain data. Imports no torch: ``list`` validates names against it."""

from lorabench.catalog.families import FAMILIES, Family
from lorabench.catalog.lookup import Model, architecture, describe
from lorabench.catalog.presets import PRESETS, Preset

__all__ = ["FAMILIES", "PRESETS", "Family", "Model", "Preset", "architecture", "describe"]
