"""Which process of each pair is measured first: drawn, and balanced."""

from __future__ import annotations

import random

BLOCK_PAIRS = 4
"""In each block of so many pairs head goes first in half; verdicts are looked for between blocks."""


def head_first(seed: str, block: int) -> list[bool]:
    """For each pair of a block, whether head goes first: two of the four, drawn anew for each block.

    A drift, or an advantage of the second place, then meets both sides alike: permuted-block randomisation (Matts and
    Lachin 1988, Properties of permuted-block randomization in clinical trials, Controlled Clinical Trials 9).
    """
    order = [False, True] * (BLOCK_PAIRS // 2)
    random.Random(f"{seed}:{block}").shuffle(order)
    return order
