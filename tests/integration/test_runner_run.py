"""From cases to records and a results file, with real processes and light workers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from conftest import LIGHT_SERVER

from lorabench.case import case_from_dict
from lorabench.environment import EnvironmentDevice, Target, resolve_device
from lorabench.errors import DeviceError, InputError, ResultsError
from lorabench.results import read_results
from lorabench.runner.launcher import NoProgress, Work
from lorabench.runner.local import LocalLauncher
from lorabench.runner.plan import plan
from lorabench.runner.run import run as run_here
from lorabench.runner.run import run_with


class Told(NoProgress):
    def __init__(self):
        self.calls = []

    def planned(self, cases):
        self.calls.append(("planned", cases))

    def started(self, case, repeat):
        self.calls.append(("started", case.seed, repeat))

    def phase(self, case, name):
        self.calls.append(("phase", case.seed, name))

    def finished(self, record):
        self.calls.append(("finished", record.seed, record.repeat))


def local(target=None, **options):
    return LocalLauncher(target or resolve_device("cpu"), server_options=LIGHT_SERVER, **options)


def run(cases, launcher=None, **options):
    return run_with(launcher or local(), cases, device=resolve_device("cpu").device, **options)


@pytest.fixture
def group(behave):
    return lambda *behaviours: tuple(
        behave(behaviour, number=number, group="group") for number, behaviour in enumerate(behaviours)
    )


def test_a_record_says_what_where_and_when(behave):
    case = behave("work", number=3)
    launcher = local()
    [record] = run([case], launcher)
    assert record.status == "ok"
    assert (record.key, record.name, record.scenario, record.seed, record.repeat) == (case.key, "work", "work", 3, 0)
    assert record.environment == launcher.environment.id
    assert record.device.name == resolve_device("cpu").device.name
    assert record.source == "measured"
    assert case_from_dict(record.case) == case
    assert record.started_at.endswith("Z")
    assert record.observations["ran_on"] == "cpu"
    assert record.wall_s > 0


def test_samples_become_a_timing(behave):
    [record] = run([behave("work")])
    step = record.latency["step"]
    assert step.samples_s == (0.25, 0.5, 0.75)
    assert step.median_s == 0.5
    assert 0.25 <= step.ci95_s[0] <= 0.5 <= step.ci95_s[1] <= 0.75


def test_a_group_has_memory_from_own_processes_and_latency_from_a_common_one(group):
    records = run(group("work", "work", "work"))
    seen = [record.observations for record in sorted(records, key=lambda record: record.seed)]
    assert len({observed["memory_pid"] for observed in seen}) == 3
    assert len({observed["timing_pid"] for observed in seen}) == 1
    assert not {observed["timing_pid"] for observed in seen} & {observed["memory_pid"] for observed in seen}


def test_a_groups_records_join_both_parts(group):
    for record in run(group("work", "work")):
        assert record.status == "ok"
        assert record.group == "group"
        assert record.memory.static_bytes == 1000
        assert record.proof.trainable_parameters == 7
        assert record.latency["step"].median_s == 0.5


def test_a_group_that_crashes_while_timed_keeps_the_memory(group):
    for record in run(group("crash-when-timed", "work")):
        assert record.status == "failed"
        assert record.error.type == "SIGABRT"
        assert record.error.message.startswith("timing: ")
        assert record.error.phase == "decode"
        assert record.memory.static_bytes == 1000


def test_arms_that_do_not_fit_side_by_side_are_timed_each_alone(group):
    records = list(run(group("need-all-memory-when-timed", "need-all-memory-when-timed", "work")))
    assert [(record.status, record.error) for record in records] == [("ok", None)] * 3
    for record in records:
        assert record.latency["step"].median_s == 0.5
        assert record.memory.static_bytes == 1000
        [warning] = record.observations["warnings"]
        assert warning == "timed alone, not in turn: the 3 arms of its group do not fit side by side"
    # No claim compares times of processes apart.
    assert len({record.observations["timing_pid"] for record in records}) == 3


def test_an_arm_that_does_not_fit_alone_while_it_is_timed_is_out_of_memory(group):
    full, ok = sorted(run(group("raise-memory-error-when-timed", "work")), key=lambda record: record.seed)
    assert (full.status, full.error.type, full.memory.static_bytes) == ("oom", "MemoryError", 1000)
    assert full.error.message.startswith("timing: ")
    assert ok.status == "ok"
    assert ok.latency


def test_a_group_that_hangs_while_timed_says_whose_time_is_over(behave):
    cases = [behave("hang-when-timed", number=number, timeout_s=1.0, group="group") for number in range(3)]
    for record in run(cases):
        assert record.status == "timeout"
        assert record.error.message == ("timing: stopped after 3 s (measure.timeout_s of the group's 3 cases together)")


def test_a_case_that_fails_alone_is_not_timed_with_its_group(group):
    failed, ok = sorted(run(group("raise-error", "work")), key=lambda record: record.seed)
    assert failed.status == "failed"
    assert failed.error.type == "ValueError"
    assert ok.status == "ok"
    assert ok.latency


def test_a_case_that_is_invalid_alone_stays_invalid_with_latency(group):
    invalid, ok = sorted(run(group("invalid-alone", "work")), key=lambda record: record.seed)
    assert invalid.status == "invalid"
    assert invalid.error.message == "memory: no quantized module"
    assert invalid.latency
    assert ok.status == "ok"


def test_a_device_that_computes_nothing_times_no_group(group):
    fake = resolve_device("fake")
    records = list(run_with(local(fake), group("work", "work"), device=fake.device))
    assert len(records) == 2
    for record in records:
        assert record.source == "predicted"
        assert record.device.type == "fake"
        assert "single_pid" in record.observations
        assert "timing_pid" not in record.observations


def test_repeats_are_rounds_in_an_order_of_their_own(behave):
    cases = [behave("work", number=number, repeats=3) for number in range(6)]
    records = list(run(cases))
    assert [record.repeat for record in records] == [0] * 6 + [1] * 6 + [2] * 6
    orders = [tuple(record.seed for record in records if record.repeat == repeat) for repeat in range(3)]
    assert len(set(orders)) > 1
    again = list(run(cases))
    assert [record.seed for record in again] == [record.seed for record in records]


def test_progress_is_told(behave):
    told = Told()
    list(run([behave("work", number=5)], local(progress=told), progress=told))
    assert told.calls == [("planned", 1), ("started", 5, 0), ("phase", 5, "load"), ("finished", 5, 0)]


def test_a_record_is_in_the_file_before_it_is_told(behave, tmp_path):
    out = tmp_path / "new" / "folder" / "out.jsonl"
    for count, record in enumerate(run([behave("work", number=n) for n in range(3)], out=out), start=1):
        results = read_results(out)
        assert len(results.records) == count
        assert results.records[-1] == record
        assert results.environments[record.environment].versions["python"]


def test_exit_first_stops_after_the_first_bad_case(behave, family):
    cases = [behave("raise-error", number=number) for number in range(3)]
    assert len(list(run(cases, exit_first=True))) == 1
    assert len(list(run(cases))) == 3
    assert not family.left_after()


@pytest.mark.parametrize(("device", "kept"), [("cpu", ["ok", "failed", "ok"]), ("fake", ["ok", "failed"])])
def test_exit_first_keeps_what_was_measured_with_the_bad_case(behave, group, tmp_path, device, kept):
    target = resolve_device(device)
    cases = [*group("work", "raise-error", "work"), behave("work", number=3)]
    # The group first, whatever order is drawn.
    seed = next(seed for seed in range(99) if plan(cases, device_name="", seed=seed)[0].grouped)
    out = tmp_path / "out.jsonl"
    records = list(run_with(local(target), cases, device=target.device, out=out, exit_first=True, seed=seed))
    assert [record.status for record in records] == kept
    assert read_results(out).records == records


def test_closing_the_generator_ends_everything(behave, family, tmp_path):
    records = run([behave("work", number=number) for number in range(3)], out=tmp_path / "out.jsonl")
    next(records)
    assert family.pids()
    records.close()
    assert not family.left_after()
    assert len(read_results(tmp_path / "out.jsonl").records) == 1


def test_resuming_runs_what_is_not_finished(behave, tmp_path):
    out = tmp_path / "out.jsonl"
    first = [behave("work", number=0), behave("raise-error", number=1), behave("raise-memory-error", number=2)]
    list(run(first, out=out))
    told = Told()
    # The same settings again: what a worker does is not part of a case's identity.
    second = [behave("work", number=number) for number in range(4)]
    resumed = list(run(second, out=out, existing="resume", progress=told))
    assert told.calls[0] == ("planned", 2)
    assert {record.seed for record in resumed} == {1, 3}
    latest = {record.seed: record.status for record in read_results(out).latest()}
    assert latest == {0: "ok", 1: "ok", 2: "oom", 3: "ok"}
    assert len(read_results(out).environments) == 1


def test_resuming_what_is_finished_starts_nothing(behave, tmp_path, family):
    out = tmp_path / "out.jsonl"
    list(run([behave("work")], out=out))
    before = out.read_bytes()
    assert list(run([behave("work")], local(python="/nonexistent"), out=out, existing="resume")) == []
    assert out.read_bytes() == before


def test_resuming_repeats_a_group_whole(group, tmp_path):
    out = tmp_path / "out.jsonl"
    list(run(group("work", "raise-error"), out=out))
    assert {record.seed for record in run(group("work", "work"), out=out, existing="resume")} == {0, 1}


def test_resuming_under_other_versions_is_refused(behave, tmp_path):
    out = tmp_path / "out.jsonl"
    list(run([behave("work")], out=out))
    out.write_text(out.read_text().replace('"peft": "', '"peft": "0.0.'))
    with pytest.raises(ResultsError, match=r"cannot be resumed: it was made with peft 0\.0\."):
        list(run([behave("work", number=1)], out=out, existing="resume"))
    assert len(read_results(out).records) == 1


def test_what_is_finished_is_held_to_the_versions_too_without_starting_anything(behave, tmp_path, family):
    out = tmp_path / "out.jsonl"
    case = behave("work")
    list(run([case], out=out))
    before = out.read_bytes()
    again = {"device": "cpu", "out": out, "existing": "resume"}
    assert list(run_here([case], **again)) == []
    assert list(run_here([case], **again, python="/another/interpreter")) == []
    assert out.read_bytes() == before
    out.write_bytes(other := before.replace(b'"torch": "', b'"torch": "1.'))
    with pytest.raises(ResultsError, match=r"cannot be resumed: it was made with torch 1\."):
        list(run_here([case], **again))
    assert out.read_bytes() == other
    assert not family.pids()


def test_a_run_that_cannot_start_destroys_nothing(behave, tmp_path):
    out = tmp_path / "out.jsonl"
    list(run([behave("work")], out=out))
    before = out.read_bytes()
    with pytest.raises(InputError):
        list(run([behave("work")], local(python="/nonexistent"), out=out, existing="replace"))
    assert out.read_bytes() == before


def test_a_run_that_cannot_start_leaves_no_empty_file(behave, tmp_path):
    with pytest.raises(InputError, match="/nonexistent"):
        list(run([behave("work")], local(python="/nonexistent"), out=tmp_path / "out.jsonl"))
    assert not list(tmp_path.iterdir())


def test_an_interpreter_that_lacks_a_library_is_refused_in_one_line(behave):
    launcher = LocalLauncher(resolve_device("cpu"), server_options=["--worker", "no_such_module:run", "--preload", ""])
    with pytest.raises(InputError, match=r"cannot run cases.*No module named 'no_such_module'") as refused:
        list(launcher.run([Work((behave("work"),))]))
    assert "\n" not in str(refused.value)


def test_a_gpu_without_a_cuda_build_of_torch_is_refused(behave):
    target = Target("cuda:0", EnvironmentDevice("cuda", "Imaginary GPU", 1 << 30))
    with local(target) as launcher, pytest.raises(DeviceError, match="without CUDA"):
        assert launcher.environment


def test_cases_that_differ_in_nothing_measured_run_once_under_the_names_of_all(behave, tmp_path):
    case = behave("work")
    out = tmp_path / "out.jsonl"
    [record] = run([case, replace(case, scenario="other")], out=out)
    assert (record.scenario, [also.scenario for also in record.also]) == ("work", ["other"])
    assert read_results(out).latest() == [record]


def test_resuming_adds_names_to_what_is_finished_and_runs_nothing(behave, tmp_path, family):
    out = tmp_path / "out.jsonl"
    case = behave("work")
    [record] = run([case], out=out)
    with out.open("a") as file:
        file.write('{"type": "record", "na')
    other = [replace(case, scenario="other")]
    for _ in range(2):
        assert list(run(other, local(python="/nonexistent"), out=out, existing="resume")) == []
        results = read_results(out)
        assert not results.warnings
        # Once known, a name is not written again.
        assert [[also.scenario for also in one.also] for one in results.records] == [[], ["other"]]
        [latest] = results.latest()
        assert replace(latest, also=()) == record
    assert family.pids() == set()


def test_resuming_with_more_to_run_adds_names_too(behave, tmp_path):
    out = tmp_path / "out.jsonl"
    case = behave("work")
    list(run([case], out=out))
    more = [replace(case, scenario="other"), behave("work", number=1)]
    [added] = run(more, out=out, existing="resume")
    assert added.seed == 1
    assert {one.seed: [also.scenario for also in one.also] for one in read_results(out).latest()} == {
        0: ["other"],
        1: [],
    }
