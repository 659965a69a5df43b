from __future__ import annotations

import pytest

from lorabench.wording import counted, days


@pytest.mark.parametrize(("number", "told"), [(0, "0 cases"), (1, "1 case"), (2, "2 cases"), (10_000, "10,000 cases")])
def test_a_count_has_its_nouns_number(number: int, told: str) -> None:
    assert counted(number, "case") == told


@pytest.mark.parametrize(
    ("starts", "told"),
    [
        ([], None),
        (["2026-01-02T03:04:05Z", "2026-01-02T23:00:00+00:00"], "2026-01-02"),
        (["2026-01-04T00:00:00Z", "2025-12-31T03:04:05Z", "2026-01-02T03:04:05Z"], "2025-12-31 to 2026-01-04"),
    ],
)
def test_days_are_from_the_first_to_the_last(starts: list[str], told: str | None) -> None:
    assert days(starts) == told
