"""A group on the GPU: its arms are timed in turn in one process, and each has the bytes that it has without a group."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest

from lorabench.case import Adapter, AdapterState, Case, Measure
from lorabench.environment import resolve_device
from lorabench.record import Record
from lorabench.runner.launcher import Work
from lorabench.runner.local import LocalLauncher
from lorabench.runner.run import run

pytestmark = pytest.mark.gpu

STATES: tuple[AdapterState, ...] = ("base", "unmerged", "merged")
STEPS = 5
Arms = dict[AdapterState, Record]


def arms(model: str, group: str | None) -> list[Case]:
    return [
        Case(
            scenario="arms",
            task="infer",
            model=model,
            quantization="fp16",
            adapter=Adapter(rank=16, target_modules="all-linear"),
            adapter_state=state,
            sequence_length=128,
            new_tokens=8,
            measure=Measure(warmup=1, steps=STEPS, timeout_s=120),
            axes=(("adapter_state", state),),
            group=group,
        )
        for state in STATES
    ]


@pytest.fixture(scope="module")
def records() -> list[Record]:
    """Of one run: the group, and each of its cases once more, without a group."""
    model = "llama-3.2-1b"
    found = list(run([*arms(model, group="arms"), *arms(model, group=None)], device="cuda"))
    assert [record.error for record in found] == [None] * 6
    return found


def by_state(records: list[Record], group: str | None) -> Arms:
    return {record.case["adapter_state"]: record for record in records if record.group == group}


@pytest.fixture(scope="module")
def grouped(records: list[Record]) -> Arms:
    return by_state(records, "arms")


@pytest.fixture(scope="module")
def alone(records: list[Record]) -> Arms:
    return by_state(records, None)


def test_a_group_is_a_record_for_each_arm(grouped: Arms, alone: Arms) -> None:
    assert grouped.keys() == alone.keys() == set(STATES)
    assert [record.status for record in grouped.values()] == ["ok"] * len(STATES)


def test_all_arms_were_timed_in_one_process(grouped: Arms, alone: Arms) -> None:
    """Two processes never take the same seconds, to the last digit, for any stage."""
    stages_s, *others_s = [record.observations["timing_stages_s"] for record in grouped.values()]
    assert stages_s.keys() == {"build", "compare", "timing", "launch"}
    assert others_s == [stages_s] * 2
    assert [record.observations["turn_steps"] for record in grouped.values()] == [1] * len(STATES)
    for record in alone.values():
        assert not {"timing_stages_s", "turn_steps"} & record.observations.keys()


@pytest.mark.parametrize("state", STATES)
def test_prefill_and_decode_are_timed_apart(state: AdapterState, grouped: Arms) -> None:
    record = grouped[state]
    assert record.latency.keys() == {"prefill", "decode"}
    for timing in record.latency.values():
        assert len(timing.samples_s) == STEPS
        assert min(timing.samples_s) > 0
    assert record.tokens_per_s == pytest.approx(1 / record.latency["decode"].median_s)


@pytest.mark.parametrize("state", STATES)
def test_launch_overhead_is_told_of_each_phase(state: AdapterState, grouped: Arms) -> None:
    shares = grouped[state].observations["launch_bound"]
    assert shares.keys() == {"prefill", "decode"}
    for phase, share in shares.items():
        assert share["gpu_busy_s"] > 0
        assert 0 <= share["launch_bound_share"] < 1
        # Of the arm's own times, not of another arm's.
        busy_share = min(1, share["gpu_busy_s"] / grouped[state].latency[phase].median_s)
        assert share["launch_bound_share"] == pytest.approx(1 - busy_share)


@pytest.mark.parametrize("state", STATES)
def test_an_arm_has_the_bytes_that_it_has_alone(state: AdapterState, grouped: Arms, alone: Arms) -> None:
    """Beside the other arms, in the process that times them, the allocator would hold three models."""
    memory, expected = grouped[state].memory, alone[state].memory
    assert memory is not None
    assert expected is not None
    assert memory.static_bytes
    assert memory.peak_reserved_bytes
    assert memory.static_bytes == expected.static_bytes
    assert memory.peak_allocated_bytes == expected.peak_allocated_bytes
    assert memory.peak_reserved_bytes == expected.peak_reserved_bytes


def test_the_arms_take_turns_and_each_is_led_by_a_step_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    options = ["--worker", "watched_workers:list_turns"]
    with LocalLauncher(resolve_device("cuda"), attribute=False, server_options=options) as launcher:
        found = list(launcher.run([Work(tuple(arms("llama-tiny", group="arms")))]))
    assert [record.error for record in found] == [None] * len(STATES)
    turns, *others = [record.observations["turns"] for record in found]
    assert others == [turns] * 2
    order = [state for state, timed in turns if timed]
    rounds = [order[first : first + len(STATES)] for first in range(0, len(order), len(STATES))]
    assert [sorted(states) for states in rounds] == [sorted(STATES)] * STEPS
    for (led_by, lead_timed), (state, timed) in pairwise(turns):
        if timed:
            assert (led_by, lead_timed) == (state, False)
