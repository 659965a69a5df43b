"""A predicted process takes memory and gives it back as the same process on an H100 did, block after block.

With the libraries of that machine: make test installs them beside the environment.

results/h100/allocations.jsonl.gz has whole histories, recorded by tests/gpu/record_allocations.py. What a history does
not have from the model is where ``cudaMalloc`` put the segments, beside what the driver holds itself: told that, the
model of the allocator reserves the same bytes as the GPU.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from lorabench.case import Case, case_from_dict
from lorabench.device.allocator import MIB, CachingAllocator, block_bytes
from lorabench.results import read_results
from lorabench.runner.job import Job
from lorabench.runner.worker import run_job

H100 = Path(__file__).parents[2] / "results" / "h100"
LARGE = MIB
"""Blocks above it come from the pool of large blocks; of the small, libraries of other versions take others."""


def read_histories() -> Iterator[dict[str, Any]]:
    with gzip.open(H100 / "allocations.jsonl.gz", "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


CASES = {
    record.key: case_from_dict(record.case)
    for record in read_results(H100 / "scenarios.jsonl", H100 / "accuracy.jsonl").records
}
HISTORIES = list(read_histories())


Call = tuple[str, int, int]
"""What was called of the allocator; for ``allocate`` and ``free`` with the address, and the bytes asked for."""


class Recorder:
    """Takes a worker's events, and notes what is called of the allocator meanwhile."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.calls: list[Call] = []
        self.status: str | None = None
        allocate, free = CachingAllocator.allocate, CachingAllocator.free

        def note_allocate(allocator: CachingAllocator, nbytes: int) -> int:
            address = allocate(allocator, nbytes)
            if nbytes:
                self.calls.append(("allocate", address, nbytes))
            return address

        def note_free(allocator: CachingAllocator, address: int) -> None:
            if address:
                self.calls.append(("free", address, 0))
            free(allocator, address)

        patch.setattr(CachingAllocator, "allocate", note_allocate)
        patch.setattr(CachingAllocator, "free", note_free)
        for name in ("empty_cache", "reset_peaks"):
            self._note(patch, name)

    def _note(self, patch: pytest.MonkeyPatch, name: str) -> None:
        original = getattr(CachingAllocator, name)

        def note(allocator: CachingAllocator) -> None:
            self.calls.append((name, 0, 0))
            original(allocator)

        patch.setattr(CachingAllocator, name, note)

    def __call__(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "result":
            self.status = event["status"]

    def phase(self, name: str, case: int) -> None:
        pass


def predicted_calls(case: Case) -> list[Call]:
    with pytest.MonkeyPatch.context() as patch:
        recorder = Recorder(patch)
        run_job(Job((case,), "memory", "fake", 0, 600, attribute=False, work=False), recorder)
    assert recorder.status == "ok"
    # What comes after the last allocation is the end of the process.
    last = max(place for place, (name, _, _) in enumerate(recorder.calls) if name == "allocate")
    return recorder.calls[: last + 1]


def large_blocks(calls: list[Call]) -> Iterator[int]:
    live: dict[int, int] = {}
    for name, address, nbytes in calls:
        whole = 0
        if name == "allocate":
            whole = live[address] = block_bytes(nbytes)
        elif name == "free":
            whole = -live.pop(address)
        if abs(whole) > LARGE:
            yield whole


def frees_in_one_order(events: list[int]) -> list[int]:
    """What a function's end gives back comes in an order of its own in Python."""
    return [
        event
        for is_free, run in groupby(events, lambda event: event < 0)
        for event in (sorted(run) if is_free else run)
    ]


class SegmentsOfTheGpu:
    """Hands out the addresses at which ``cudaMalloc`` put the segments, in its order."""

    def __init__(self, segments: list[list[int]]) -> None:
        self._segments = iter(segments)

    def take(self, nbytes: int) -> int:
        address, size = next(self._segments)
        assert size == nbytes
        return address

    def give_back(self, address: int) -> None:
        pass


def peak_reserved_bytes(calls: list[Call], segments: list[list[int]]) -> int:
    """Where segments lie as they lay on the GPU."""
    allocator = CachingAllocator()
    allocator._addresses = SegmentsOfTheGpu(segments)  # type: ignore[assignment]
    live: dict[int, int] = {}
    for name, address, nbytes in calls:
        if name == "allocate":
            live[address] = allocator.allocate(nbytes)
        elif name == "free":
            allocator.free(live.pop(address))
        else:
            getattr(allocator, name)()
    return allocator.peak_reserved_bytes


def test_the_libraries_are_those_that_were_measured() -> None:
    measured = next(iter(read_results(H100 / "scenarios.jsonl").environments.values())).versions
    here = {name: version(name) for name in ("transformers", "peft")}
    assert here == {name: measured[name] for name in here}, "make test runs these tests with PYTHONPATH=.venv/h100"


@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: history["name"])
def test_blocks_are_taken_and_given_back_as_on_the_gpu(history: dict[str, Any]) -> None:
    calls = predicted_calls(CASES[history["key"]])
    predicted = list(large_blocks(calls))
    measured = [event for event in history["events"] if abs(event) > LARGE]
    assert frees_in_one_order(predicted) == frees_in_one_order(measured[: len(predicted)])
    assert peak_reserved_bytes(calls, history["segments"]) == history["peak_reserved_bytes"]
