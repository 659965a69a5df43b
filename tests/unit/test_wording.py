from __future__ import annotations

import pytest

from lorabench.wording import counted


@pytest.mark.parametrize(("number", "told"), [(0, "0 cases"), (1, "1 case"), (2, "2 cases"), (10_000, "10,000 cases")])
def test_a_count_has_its_nouns_number(number: int, told: str) -> None:
    assert counted(number, "case") == told
