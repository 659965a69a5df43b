"""The search against functions whose answer is known, and how few values it tries."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorabench.fitting.search import Found, Probe, search


def bounded(cost: Callable[[int], int], capacity: int) -> Callable[[int], Probe]:
    def probe(value: int) -> Probe:
        fits = cost(value) <= capacity
        return Probe(value, fits, cost(value) if fits else None)

    return probe


def run(cost: Callable[[int], int], capacity: int, *, second: int = 2, limit: int = 65_536) -> Found:
    return search(bounded(cost, capacity), 1, second, limit, capacity)


@given(
    base=st.integers(0, 10**9),
    slope=st.integers(1, 10**7),
    bend=st.integers(0, 2000),
    answer=st.integers(1, 5000),
    second=st.integers(2, 600),
)
def test_it_finds_the_largest_that_fits(base: int, slope: int, bend: int, answer: int, second: int) -> None:
    def cost(value: int) -> int:
        return base + slope * value + bend * value * value

    found = run(cost, cost(answer), second=second, limit=5000)
    assert found.largest == answer
    assert found.smallest_failing == (answer + 1 if answer < 5000 else None)
    assert found.is_monotone


@given(st.lists(st.integers(0, 50), min_size=2, max_size=300), st.integers(0, 4000))
def test_steps_and_plateaus_do_not_mislead_it(rises: list[int], capacity: int) -> None:
    def cost(value: int) -> int:
        return sum(rises[:value])

    expected = max((value for value in range(1, len(rises) + 1) if cost(value) <= capacity), default=None)
    assert run(cost, capacity, limit=len(rises)).largest == expected


def test_a_straight_line_takes_five_predictions() -> None:
    # Llama-2-7B, 512 tokens: 13.5 GB and 3 GB a row, on 80 GB.
    found = run(lambda value: 13_500_000_000 + 2_960_000_000 * value, 84_000_000_000)
    assert found.largest == 23
    assert [probe.value for probe in found.probes] == [1, 2, 23, 24, 65_536]


def test_the_line_may_be_too_high_by_a_few() -> None:
    # Fragments: the allocator fails below what the sum of bytes would allow.
    def probe(value: int) -> Probe:
        return Probe(value, value <= 20, 1000 * value if value <= 20 else None)

    found = search(probe, 1, 2, 65_536, 23_999)
    assert found.largest == 20
    assert len(found.probes) <= 8


@pytest.mark.parametrize("limit", [1, 2, 3, 512])
def test_a_limit_stops_it(limit: int) -> None:
    found = run(lambda value: value, 10**6, limit=limit)
    assert (found.largest, found.smallest_failing) == (limit, None)
    assert max(probe.value for probe in found.probes) == limit


def test_nothing_fits() -> None:
    found = run(lambda value: 100 + value, 50)
    assert (found.largest, found.smallest_failing) == (None, 1)
    assert len(found.probes) == 1


def test_the_far_end_shows_that_bytes_do_not_rise_alone() -> None:
    found = search(lambda value: Probe(value, value != 5, value), 1, 5, 100, 1000)
    assert (found.largest, found.smallest_failing, found.is_monotone) == (4, 5, False)


@pytest.mark.parametrize(("failing_at", "largest"), [(1, None), (2, 1), (23, 2)])
def test_a_failed_prediction_ends_it(failing_at: int, largest: int | None) -> None:
    def probe(value: int) -> Probe:
        error = "no such operator" if value == failing_at else None
        return Probe(value, error is None and value <= 23, 1000 * value, error)

    found = search(probe, 1, 2, 65_536, 23_500)
    assert found.error == "no such operator"
    assert (found.largest, found.smallest_failing) == (largest, None)
