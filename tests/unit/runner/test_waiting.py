"""Following several at once: nothing is lost, nobody waits for another, and all are closed."""

from __future__ import annotations

import os
import time

import pytest

from lorabench.runner.waiting import Wait, finish, merge

NEVER = float("inf")


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    yield reading, writing
    for fd in (reading, writing):
        os.close(fd)


def lane(*steps):
    yield from steps


def soon():
    return Wait(time.monotonic() + 0.01)


def test_all_that_the_lanes_yield_comes_in_the_order_of_each():
    merged = list(merge([lane("a1", soon(), "a2", "a3"), lane(), lane(soon(), "b1", soon(), soon(), "b2")]))
    assert sorted(merged) == ["a1", "a2", "a3", "b1", "b2"]
    assert [step for step in merged if step[0] == "a"] == ["a1", "a2", "a3"]
    assert [step for step in merged if step[0] == "b"] == ["b1", "b2"]


def test_a_lane_that_waits_for_good_holds_up_no_other(pipe):
    reading, writing = pipe

    def waits():
        yield Wait(time.monotonic() + 3600, reading)
        yield os.read(reading, 1)

    def wakes():
        for number in range(3):
            yield soon()
            yield number
        os.write(writing, b"!")

    assert list(merge([waits(), wakes()])) == [0, 1, 2, b"!"]


def test_a_deadline_ends_a_wait_for_what_never_comes(pipe):
    deadline = time.monotonic() + 0.05
    assert list(merge([lane(Wait(deadline, pipe[0]), "over")])) == ["over"]
    assert time.monotonic() >= deadline


def test_waiting_sleeps():
    before = time.process_time()
    list(merge([lane(Wait(time.monotonic() + 0.5)), lane(Wait(time.monotonic() + 0.4))]))
    assert time.process_time() - before < 0.1


def test_lanes_that_share_a_queue_split_it():
    queue = iter(range(10))

    def takes(name):
        for number in queue:
            yield soon()
            yield name, number

    merged = list(merge([takes("a"), takes("b")]))
    assert sorted(number for _, number in merged) == list(range(10))
    assert {name for name, _ in merged} == {"a", "b"}


@pytest.mark.parametrize("way", ["close", "error"])
def test_all_lanes_are_closed_however_it_ends(way):
    closed = []

    def noting(name, *steps):
        try:
            yield from steps
        finally:
            closed.append(name)

    def failing():
        yield "first"
        raise ValueError("a lane's own")

    merged = merge([noting("a", Wait(NEVER)), noting("b", soon(), Wait(NEVER)), failing()])
    assert next(merged) == "first"
    if way == "close":
        merged.close()
    else:
        with pytest.raises(ValueError, match="a lane's own"):
            next(merged)
    assert sorted(closed) == ["a", "b"]


def test_finish_returns_what_the_lane_returns():
    def answers():
        yield soon()
        return 42

    assert finish(answers()) == 42
