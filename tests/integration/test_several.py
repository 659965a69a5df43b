"""Several devices at once: which case runs where and when. CPU devices: their times disturb each other, which the
command line therefore refuses, but scheduling is the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
from conftest import LIGHT_SERVER

from lorabench.environment import resolve_device
from lorabench.errors import InputError
from lorabench.nvml import GpuUse
from lorabench.results import read_results
from lorabench.runner import watch
from lorabench.runner.launcher import NoProgress
from lorabench.runner.local import LocalLauncher
from lorabench.runner.run import run_with
from lorabench.runner.several import SeveralLaunchers

CPU = resolve_device("cpu")


def several(count=2, **options):
    return SeveralLaunchers([LocalLauncher(CPU, server_options=LIGHT_SERVER, **options) for _ in range(count)])


def run(cases, launcher=None, **options):
    return run_with(launcher or several(), cases, device=CPU.device, **options)


@pytest.fixture
def signs(tmp_path, monkeypatch):
    """Where workers leave signs for each other."""
    folder = tmp_path / "signs"
    folder.mkdir()
    monkeypatch.setenv("LORABENCH_TEST_SIGNS", str(folder))


@pytest.fixture
def meeting(behave, signs):
    """Makes a case that ends when so many others have been started."""

    def make(others, number, **options):
        case = behave("meet", number=number, **options)
        return replace(case, measure=replace(case.measure, steps=others))

    return make


def servers(records):
    return {record.observations["server_pid"] for record in records}


def test_cases_run_at_the_same_time_each_on_a_server_of_its_own(meeting):
    records = list(run([meeting(1, 0), meeting(1, 1)]))
    assert [record.status for record in records] == ["ok", "ok"]
    assert len(servers(records)) == 2


def test_one_case_a_device_at_a_time(signs, behave):
    records = list(run([behave("be-alone", number=number) for number in range(8)]))
    assert {record.status for record in records} == {"ok"}


def test_whoever_is_free_takes_the_next_case(meeting):
    """A case that ends when all others have been started: dealt out beforehand, some would wait behind it."""
    records = list(run([meeting(5, 0), *(meeting(0, number) for number in range(1, 6))]))
    assert {record.status for record in records} == {"ok"}


def test_a_group_is_not_split(behave):
    cases = [behave("work", number=number, group=f"group {number // 3}") for number in range(12)]
    records = list(run(cases))
    assert len(records) == 12
    for name in {record.group for record in records}:
        members = [record for record in records if record.group == name]
        assert len(servers(members)) == 1
        assert len({record.observations["timing_pid"] for record in members}) == 1


def test_a_server_that_dies_loses_its_own_case_alone(behave):
    cases = [behave("kill-server" if number == 1 else "work", number=number) for number in range(8)]
    records = {record.seed: record for record in run(cases)}
    assert len(records) == 8
    assert records.pop(1).error.type == "ServerDied"
    assert {record.status for record in records.values()} == {"ok"}


def test_exit_first_stops_all(behave, family, tmp_path):
    cases = [behave("hang-asleep", number=0), *(behave("raise-error", number=number) for number in range(1, 5))]
    out = tmp_path / "out.jsonl"
    [record] = run(cases, out=out, exit_first=True)
    assert record.status == "failed"
    assert not family.left_after()
    assert len(read_results(out).records) == 1


def test_closing_the_generator_ends_every_server(behave, family):
    records = run([behave("hang-asleep", number=0), behave("work", number=1), behave("work", number=2)])
    next(records)
    assert len(family.pids()) >= 2
    records.close()
    assert not family.left_after()


def test_resuming_runs_what_is_not_finished(behave, tmp_path):
    out = tmp_path / "out.jsonl"
    list(run([behave("work", number=number) for number in range(3)], out=out))
    again = list(run([behave("work", number=number) for number in range(6)], out=out, existing="resume"))
    assert {record.seed for record in again} == {3, 4, 5}
    assert len(read_results(out).records) == 6


def test_every_device_has_an_environment_of_its_own(behave, tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "gpu_use", lambda index: None)
    gpus = [replace(CPU, nvml_index=index) for index in range(2)]
    launcher = SeveralLaunchers([LocalLauncher(gpu, server_options=LIGHT_SERVER) for gpu in gpus])
    out = tmp_path / "out.jsonl"
    records = list(run([behave("work", number=number) for number in range(6)], launcher, out=out))
    environments = read_results(out).environments
    assert [environment.gpu["number"] for environment in environments.values()] == [0, 1]
    assert {record.environment for record in records} == set(environments)
    assert len(out.read_text().splitlines()) == 2 + 6


def test_an_interpreter_that_cannot_run_cases_ends_the_run_in_one_line(behave, family):
    with pytest.raises(InputError, match="/nonexistent"):
        list(run([behave("work")], several(python="/nonexistent")))
    assert not family.left_after()


class Told(NoProgress):
    def __init__(self):
        self.warnings = []

    def warning(self, text):
        self.warnings.append(text)


@pytest.fixture
def shared_gpu(monkeypatch):
    """A GPU that somebody else holds 300 MiB of, and that is hot."""
    monkeypatch.setattr(watch, "gpu_use", lambda index: GpuUse(frozenset({7}), 300 << 20))
    monkeypatch.setattr(watch, "device_state", lambda index: {"throttle_reasons": ["power cap"], "power_w": 699.5})
    monkeypatch.setattr(watch, "throttled_s", lambda index: {})
    return replace(CPU, nvml_index=0)


def test_a_record_keeps_what_the_driver_said(behave, shared_gpu):
    told = Told()
    cases = [behave("time-steps", number=number) for number in range(3)]
    launcher = LocalLauncher(shared_gpu, server_options=LIGHT_SERVER, progress=told)
    for record in run(cases, launcher):
        assert record.observations["device"] == {
            "throttle_reasons": ["power cap"],
            "power_w": 699.5,
            "used_bytes": 300 << 20,
        }
        assert len(record.observations["warnings"]) == 2
        assert record.observations["ran_on"] == "cuda:0"
    assert len(told.warnings) == 1, "it is said once, not for every case"


def test_a_groups_records_keep_what_was_said_of_both_processes(behave, shared_gpu):
    cases = [behave("time-steps", number=number, group="group") for number in range(2)]
    for record in run(cases, LocalLauncher(shared_gpu, server_options=LIGHT_SERVER)):
        assert record.observations["device"]["power_w"] == 699.5
        assert len(record.observations["warnings"]) == 2
