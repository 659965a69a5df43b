from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.profiler import DeviceType, ProfilerActivity, profile

from lorabench.measure import launch
from lorabench.measure.launch import ProfiledPhases, busy_s, device_intervals_ns, launch_bound

INTERVALS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)).map(lambda pair: (pair[0], sum(pair))))


@pytest.mark.parametrize(
    ("intervals", "nanoseconds"),
    [
        ([], 0),
        ([(5, 8)], 3),
        ([(0, 2), (4, 6)], 4),
        ([(4, 6), (0, 2), (1, 5)], 6),
        ([(0, 10), (2, 3), (9, 12)], 12),
        ([(0, 5), (5, 7)], 7),
        ([(3, 3)], 0),
    ],
)
def test_overlapping_kernels_count_once(intervals: list[tuple[int, int]], nanoseconds: int) -> None:
    assert busy_s(intervals) == pytest.approx(nanoseconds / 1e9)


@given(INTERVALS)
def test_busy_time_is_the_number_of_instants_that_are_covered(intervals: list[tuple[int, int]]) -> None:
    covered = {instant for start, end in intervals for instant in range(start, end)}
    assert busy_s(intervals) == pytest.approx(len(covered) / 1e9)


def test_the_profilers_raw_results_are_what_this_torch_gives() -> None:
    with profile(activities=[ProfilerActivity.CPU]) as profiler, torch.profiler.record_function("ours"):
        torch.ones(64, 64) @ torch.ones(64, 64)
    intervals = device_intervals_ns(profiler, DeviceType.CPU)
    events = {event.name: event for event in profiler.events()}
    product = events["aten::mm"].time_range
    lengths_us = [(end - start) / 1000 for start, end in intervals]
    assert any(length == pytest.approx(product.elapsed_us(), abs=1e-3) for length in lengths_us)
    # The annotation is the longest, and not among them.
    assert max(lengths_us) < events["ours"].time_range.elapsed_us()
    assert device_intervals_ns(profiler, DeviceType.CUDA) == []


class Event:
    """One event of the profiler's raw results."""

    def __init__(self, start_ns: int, end_ns: int, device: Any = DeviceType.CUDA, annotation: bool = False) -> None:
        self._start_ns, self._end_ns, self._device, self._annotation = start_ns, end_ns, device, annotation

    def start_ns(self) -> int:
        return self._start_ns

    def end_ns(self) -> int:
        return self._end_ns

    def device_type(self) -> Any:
        return self._device

    def is_user_annotation(self) -> bool:
        return self._annotation


@pytest.fixture
def profiled(monkeypatch: pytest.MonkeyPatch) -> list[list[Event]]:
    """What the profiler will have seen in each block, in turn."""
    blocks: list[list[Event]] = []
    number = itertools.count()

    @contextmanager
    def scripted(**options: Any) -> Iterator[Any]:
        assert options == {"activities": [ProfilerActivity.CUDA]}
        results = SimpleNamespace(events=lambda: blocks[block])
        block = next(number)
        yield SimpleNamespace(profiler=SimpleNamespace(kineto_results=results))

    monkeypatch.setattr(launch, "profile", scripted)
    return blocks


def test_each_phase_is_profiled_by_itself_with_the_device_idle_at_its_ends(profiled: list[list[Event]]) -> None:
    calls: list[str] = []
    device: Any = SimpleNamespace(synchronize=lambda: calls.append("wait"))
    profiled += [
        [Event(0, 100), Event(50, 150), Event(0, 9000, DeviceType.CPU), Event(0, 9000, annotation=True)],
        [Event(0, 50)],
    ]
    phases = ProfiledPhases(device, calls.append)
    with phases("prefill"):
        calls.append("inside")
    with phases("decode"):
        pass
    assert calls == ["prefill", "wait", "inside", "wait", "decode", "wait", "wait"]
    assert phases.samples_s() == {
        "prefill": [pytest.approx(150e-9)],
        "decode": [pytest.approx(50e-9)],
        "step": [pytest.approx(200e-9)],
    }


def test_the_launch_bound_share_is_the_time_in_which_nothing_ran() -> None:
    shares = launch_bound({"step": [0.03]}, {"step": [0.11, 0.1, 0.09]})
    assert shares["step"] == pytest.approx({"gpu_busy_share": 0.3, "launch_bound_share": 0.7, "gpu_busy_s": 0.03})


def test_a_share_is_never_over_one() -> None:
    share = launch_bound({"step": [0.11]}, {"step": [0.1]})["step"]
    assert share == {"gpu_busy_share": 1.0, "launch_bound_share": 0.0, "gpu_busy_s": 0.11}


def test_a_phase_in_which_nothing_was_seen_has_no_share() -> None:
    assert launch_bound({"prefill": [0.0], "decode": [0.1]}, {"prefill": [0.2], "decode": [0.2]}).keys() == {"decode"}
    assert launch_bound({"step": [0.1]}, {}) == {}
