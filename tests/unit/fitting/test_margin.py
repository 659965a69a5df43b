"""What ``--margin`` means."""

from __future__ import annotations

import pytest

from lorabench.errors import InputError
from lorabench.fitting import margin_bytes


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", 0), ("0.0", 0), ("5%", 50_000), ("2.5%", 25_000), ("1kib", 1024), ("1.5 KB", 1500), ("512 B", 512)],
)
def test_sizes_and_shares(text: str, expected: int) -> None:
    assert margin_bytes(text, 1_000_000) == expected


@pytest.mark.parametrize(
    "text", ["", "5", "100000", "-1", "2 GBit", "five", "5%%", "1e9", "100%", "2GiB", "nan", "9" * 400 + "GiB"]
)
def test_others_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError, match="--margin") as refused:
        margin_bytes(text, 1_000_000)
    assert "\n" not in str(refused.value)
