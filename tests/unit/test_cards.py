"""The table of cards: complete, plausible against published figures, and found by the names that people use."""

from __future__ import annotations

import pytest

from lorabench.catalog import CARDS, DEFAULT_CARD, find_card
from lorabench.environment import PREDICTED_CARD
from lorabench.errors import DeviceError

MIB, GIB = 1 << 20, 1 << 30


def test_the_cards_that_are_promised_are_there() -> None:
    assert list(CARDS) == [
        *("T4", "V100-16", "V100-32", "RTX3090", "RTX4090", "RTX5090", "L4", "A10"),
        *("A100-40", "A100-80", "L40S", "H100", "H200", "B200"),
    ]


@pytest.mark.parametrize("card", CARDS.values(), ids=lambda card: card.name)
def test_the_driver_leaves_most_of_a_card(card) -> None:
    assert CARDS[card.name] is card
    assert 200 * MIB < card.total_bytes - card.cuda_bytes < 0.03 * card.total_bytes
    for quantization in ("bf16", "int8"):
        assert 0.9 < card.usable_bytes(quantization) / card.cuda_bytes < 1
    assert card.usable_bytes("int8") == card.usable_bytes("nf4") - 66 * MIB
    is_ampere_or_newer = card.name not in ("T4", "V100-16", "V100-32")
    assert card.has_bf16 is card.has_flash_attention is is_ampere_or_newer


def test_the_h100_is_the_one_that_was_measured() -> None:
    assert DEFAULT_CARD is CARDS["H100"]
    assert (PREDICTED_CARD.name, PREDICTED_CARD.total_bytes) == ("NVIDIA H100 80GB HBM3", 85_520_809_984)
    assert DEFAULT_CARD.cuda_bytes == pytest.approx(79.11 * GIB, rel=2e-4)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        *(("h100", "H100"), ("H100", "H100"), ("rtx 4090", "RTX4090"), ("RTX-3090", "RTX3090"), ("a100_80", "A100-80")),
        *(("NVIDIA GeForce RTX 5090", "RTX5090"), ("Tesla T4", "T4"), ("NVIDIA B200", "B200")),
    ],
)
def test_names_that_people_use(name: str, found: str) -> None:
    assert find_card(name).name == found


@pytest.mark.parametrize("name", ["", "A100", "T5", "H100 96GB", "x" * 500, "T\n5"])
def test_other_names_are_refused_with_a_list(name: str) -> None:
    with pytest.raises(DeviceError, match="no such card") as refused:
        find_card(name)
    text = str(refused.value)
    assert refused.value.exit_code == 2
    assert "\n" not in text
    assert all(card in text for card in CARDS)
    assert len(text) < 400
