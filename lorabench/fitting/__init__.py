"""What fits on a card: the largest batch, length or rank, found by predictions."""

from lorabench.fitting.answer import Answer
from lorabench.fitting.largest import AXES, Axis, find_largest
from lorabench.fitting.margin import margin_bytes

__all__ = ["AXES", "Answer", "Axis", "find_largest", "margin_bytes"]
