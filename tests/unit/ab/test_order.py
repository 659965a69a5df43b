from __future__ import annotations

from collections import Counter

from lorabench.ab.order import BLOCK_PAIRS, head_first


def test_half_of_each_block_begins_with_head():
    assert all(sum(head_first(f"{seed}", block)) == BLOCK_PAIRS / 2 for seed in range(20) for block in range(20))


def test_every_order_of_a_block_is_as_likely():
    drawn = Counter(tuple(head_first("0:case", block)) for block in range(6000))
    assert len(drawn) == 6
    # A binomial count of 6,000 at 1/6 has a standard deviation of 29.
    assert all(abs(count - 1000) < 5 * 29 for count in drawn.values())


def test_the_seed_decides():
    blocks = range(16)
    assert [head_first("a", block) for block in blocks] == [head_first("a", block) for block in blocks]
    assert [head_first("a", block) for block in blocks] != [head_first("b", block) for block in blocks]
