"""The passes over workloads that do nothing but write down that they were asked to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import pairwise
from typing import Any

import pytest

from lorabench.measure.launch import ProfiledPhases
from lorabench.measure.phases import TimedPhases
from lorabench.workload import passes
from lorabench.workload.passes import TURN_STEPS, launch_pass, timed_pass


class Log(list[str]):
    """What happened, in order; also the device, whose clock ticks once with each step."""

    now = 0.0

    def synchronize(self) -> None:
        self.append("wait")

    def mark(self) -> float:
        return self.now

    def elapsed_s(self, marks: Sequence[float]) -> list[float]:
        return [later - earlier for earlier, later in pairwise(marks)]


class Arm:
    def __init__(self, name: str, log: Log, seconds: float = 1.0) -> None:
        self.name, self.log, self.seconds, self.short = name, log, seconds, False

    def begin_timing(self) -> None:
        self.log.append(f"begin {self.name}")

    def step(self, phases: Any) -> None:
        kind = "timed" if isinstance(phases, TimedPhases) else "short" if self.short else "silent"
        self.log.append(f"{kind} {self.name}")
        with phases("work"):
            self.log.now += self.seconds

    def latency(self, samples_s: Mapping[str, list[float]]) -> dict[str, list[float]]:
        divisor = 1 if self.short else 4
        return {name: [seconds / divisor for seconds in samples] for name, samples in samples_s.items()}

    def shortened(self) -> AbstractContextManager[None]:
        @contextmanager
        def short() -> Any:
            self.short = True
            yield
            self.short = False

        return short()


def run(arms: Sequence[Any], log: Any, **settings: int) -> list[dict[str, list[float]]]:
    return timed_pass(arms, log, lambda phase: None, **{"warmup": 2, "steps": 10, "seed": 0, **settings})


def test_one_arm_runs_like_a_bare_loop() -> None:
    log = Log()
    [latency] = run([Arm("a", log)], log)
    # Nothing waits, and nothing untimed comes between the steps.
    assert log == ["begin a", *["silent a"] * 2, *["timed a"] * 10]
    assert latency == {"work": [0.25] * 10, "step": [0.25] * 10}


def test_each_turn_of_a_group_begins_idle_and_with_a_short_step_of_the_arms_own() -> None:
    log = Log()
    run([Arm(name, log) for name in "abc"], log)
    turns = [turn.split() for turn in " ".join(log[log.index("wait") :]).split("wait ")[1:]]
    assert all(turn == ["short", turn[1], "timed", turn[1]] for turn in turns)
    # Every arm has its turn in each of ten rounds.
    order = [turn[1] for turn in turns]
    assert [sorted(order[start : start + 3]) for start in range(0, 30, 3)] == [["a", "b", "c"]] * 10


def test_a_turn_has_as_many_timed_steps_as_records_say() -> None:
    log = Log()
    run([Arm(name, log) for name in "ab"], log)
    turns = " ".join(log[log.index("wait") :]).split("wait ")[1:]
    assert {turn.count("timed") for turn in turns} == {TURN_STEPS}


def test_the_order_of_arms_is_drawn_anew_and_from_the_seed() -> None:
    def order(seed: int) -> list[str]:
        log = Log()
        run([Arm(name, log) for name in "abc"], log, steps=40, seed=seed)
        entries = log[log.index("wait") :]
        return [after for before, after in pairwise(entries) if before == "wait"]

    assert order(1) == order(1) != order(2)
    rounds = [tuple(order(1)[start : start + 3]) for start in range(0, 30, 3)]
    assert len(set(rounds)) > 1


def test_samples_are_each_arms_own() -> None:
    log = Log()
    fast, slow = run([Arm("a", log, 1.0), Arm("b", log, 8.0)], log)
    assert fast["step"] == [0.25] * 10
    assert slow["step"] == [2.0] * 10


def test_launch_overhead_is_that_of_a_shortened_step(monkeypatch: pytest.MonkeyPatch) -> None:
    class Profiled(ProfiledPhases):
        def __call__(self, name: str) -> AbstractContextManager[None]:
            @contextmanager
            def half_busy() -> Any:
                yield
                self._busy_s[name] = [0.5]

            return half_busy()

    monkeypatch.setattr(passes, "ProfiledPhases", Profiled)
    log: Any = Log()
    arm: Any = Arm("a", log)
    shares = launch_pass(arm, log, lambda phase: None, {"work": [1.0, 2.0, 4.0]})
    assert shares == {"work": {"gpu_busy_share": 0.25, "launch_bound_share": 0.75, "gpu_busy_s": 0.5}}
    assert not arm.short
