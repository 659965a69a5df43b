from __future__ import annotations

from dataclasses import replace

import pytest

from lorabench.case import Case
from lorabench.runner.job import Job
from lorabench.runner.outcome import Outcome, join, make_record, outcomes
from lorabench.runner.watch import Notes

CASES = (Case("one", "train", "llama-tiny"), Case("two", "train", "llama-tiny"))
END = {"event": "end", "status": "failed", "error": {"type": "NoResult", "message": "no", "phase": "load"}, "case": 0}
EXIT = {**END, "error": {"type": "ExitStatus", "message": "exited with status 1", "phase": "load"}}


def result(case, status="ok", **parts):
    return {"event": "result", "case": case, "status": status, "error": None, **parts}


def job(cases=CASES):
    return Job(cases, "timing", "cpu", 0, 1.0)


def record_of(outcome, environment):
    return make_record(CASES[0], outcome, environment=environment, repeat=0, started_at="2026-01-02T03:04:05Z")


def test_results_are_found_by_case_and_time_is_shared_out():
    first, second = outcomes(job(), [result(1, proof="b"), result(0, proof="a"), END], 4.0)
    assert (first.results["proof"], second.results["proof"]) == ("a", "b")
    assert first.wall_s == second.wall_s == 2.0


def test_a_case_without_a_result_gets_the_ending():
    first, second = outcomes(job(), [result(0), END], 1.0)
    assert first.status == "ok"
    assert (second.status, second.error["type"], second.error["phase"]) == ("failed", "NoResult", "load")


def test_what_the_worker_raised_explains_its_exit():
    raised = {"event": "raised", "status": "oom", "type": "MemoryError", "message": "12 GiB"}
    [outcome] = outcomes(job(CASES[:1]), [raised, EXIT], 1.0)
    assert outcome.status == "oom"
    assert outcome.error == {"type": "MemoryError", "message": "12 GiB", "phase": "load"}


def test_a_time_out_after_an_exception_is_a_time_out():
    raised = {"event": "raised", "status": "failed", "type": "ValueError", "message": "x"}
    timeout = {**END, "status": "timeout", "error": {"type": "Timeout", "message": "1 s", "phase": "load"}}
    [outcome] = outcomes(job(CASES[:1]), [raised, timeout], 1.0)
    assert (outcome.status, outcome.error["type"]) == ("timeout", "Timeout")


def outcome(status, message="why", **results):
    error = None if status == "ok" else {"type": "Error", "message": message, "phase": None}
    return Outcome(status, error, 1.0, results)


def test_what_was_noted_of_the_device_is_observed(environment):
    measured = outcome("ok", observations={"losses": [1.5], "warnings": ["the worker's"]})
    noted = replace(measured, notes=Notes({"power_w": 350.0}, ["the parent's"]))
    assert record_of(noted, environment).observations == {
        "losses": [1.5],
        "device": {"power_w": 350.0},
        "warnings": ["the worker's", "the parent's"],
    }


def test_what_was_noted_of_a_case_without_a_result_is_kept(environment):
    lost = Outcome("failed", None, 1.0, notes=Notes({"left_bytes": 5}, ["left"]))
    assert record_of(lost, environment).observations == {"device": {"left_bytes": 5}, "warnings": ["left"]}


def test_notes_do_not_hide_that_observations_are_malformed(environment):
    broken = replace(outcome("ok", observations=[]), notes=Notes({}, ["a warning"]))
    assert record_of(broken, environment).error.type == "MalformedResult"


def test_a_groups_two_processes_are_both_noted(environment):
    memory = replace(outcome("ok", observations={"warnings": ["w1"]}), notes=Notes({"left_bytes": 5}, ["left", "busy"]))
    timing = replace(outcome("ok", observations={"warnings": ["w2"]}), notes=Notes({"power_w": 350.0}, ["busy"]))
    assert record_of(join(memory, timing), environment).observations == {
        "device": {"left_bytes": 5, "power_w": 350.0},
        "warnings": ["w1", "w2", "left", "busy"],
    }


@pytest.mark.parametrize(
    ("memory", "timing", "status", "message"),
    [
        ("ok", "ok", "ok", None),
        ("ok", "oom", "oom", "timing: t"),
        ("invalid", "ok", "invalid", "memory: m"),
        ("invalid", "timeout", "timeout", "timing: t"),
        ("invalid", "invalid", "invalid", "memory: m"),
        ("ok", "failed", "failed", "timing: t"),
    ],
)
def test_the_worse_status_wins_and_says_where_it_is_from(memory, timing, status, message):
    joined = join(outcome(memory, "m"), outcome(timing, "t"))
    assert joined.status == status
    assert (joined.error and joined.error["message"]) == message


def test_each_part_comes_from_the_process_that_measured_it():
    memory = outcome(
        "ok", memory={"static_bytes": 1}, proof={"layers": 1}, latency={"step": [9.0]}, observations={"a": 1}
    )
    timing = outcome(
        "ok", memory={"static_bytes": 2}, latency={"step": [1.0]}, tokens_per_s=5.0, observations={"b": 2}, proof=None
    )
    joined = join(memory, timing)
    assert joined.results["memory"] == {"static_bytes": 1}
    assert joined.results["proof"] == {"layers": 1}
    assert joined.results["latency"] == {"step": [1.0]}
    assert joined.results["tokens_per_s"] == 5.0
    assert joined.results["observations"] == {"a": 1, "b": 2}
    assert joined.wall_s == 2.0


def test_alone_it_is_left_as_it_is():
    alone = outcome("oom")
    assert join(alone, None) is alone


def test_a_record_has_statistics_of_the_samples(environment):
    record = record_of(outcome("ok", latency={"step": [0.1, 0.3, 0.2]}, tokens_per_s=7.0), environment)
    assert record.latency["step"].samples_s == (0.1, 0.3, 0.2)
    assert record.latency["step"].median_s == 0.2
    assert record.tokens_per_s == 7.0
    assert record.environment == environment.id


@pytest.mark.parametrize(
    "results",
    [
        {"memory": {"static_bytes": "many"}},
        {"memory": 7},
        {"latency": {"step": ["fast"]}},
        {"latency": {"step": []}},
        {"latency": 3},
        {"proof": {"layers": None}},
        {"observations": []},
        {"observations": {"loss": float("nan")}},
    ],
)
def test_a_malformed_result_makes_the_record_failed(environment, results):
    record = record_of(outcome("ok", **results), environment)
    assert record.status == "failed"
    assert record.error.type == "MalformedResult"
    assert record.memory is None


def test_a_malformed_status_makes_the_record_failed(environment):
    assert record_of(Outcome("splendid", None, 1.0), environment).error.type == "MalformedResult"


def test_what_was_measured_before_the_end_is_kept(environment):
    memory = {"static_bytes": 3, "dynamic_bytes": 2, "peak_allocated_bytes": 5}
    measured = {**result(0, memory=memory, observations={"stages_s": {"memory": 1.0}}), "event": "measured"}
    timeout = {**END, "status": "timeout", "error": {"type": "Timeout", "message": "1 s", "phase": "forward"}}
    first, second = outcomes(job(), [measured, timeout], 1.0)
    record = record_of(first, environment)
    assert (record.status, record.error.type, record.error.phase) == ("timeout", "Timeout", "forward")
    assert (record.memory.static_bytes, record.memory.peak_allocated_bytes) == (3, 5)
    assert (dict(record.latency), record.observations["stages_s"]) == ({}, {"memory": 1.0})
    assert record_of(second, environment).memory is None
    [whole, _] = outcomes(job(), [measured, result(0, memory={"static_bytes": 4}), timeout], 1.0)
    assert whole.results["memory"] == {"static_bytes": 4}
