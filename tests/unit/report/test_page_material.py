"""What a report is made of: which records count, and what must be said against them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lorabench.case import Adapter
from lorabench.environment import EnvironmentDevice
from lorabench.record import AlsoIn, Record, RecordDevice, Timing
from lorabench.report.page.caveats import caveats, incomparable, machines
from lorabench.report.page.material import devices, gather, is_committed
from lorabench.report.page.scenarios import MOST_FIGURES, left_out, panels
from lorabench.results import Results


@pytest.fixture
def read(environment):
    """Records as one results file was read."""

    def read(*records, path: str = "results/fresh.jsonl", warnings=(), environments=None) -> Results:
        known = environments or [environment]
        return Results({one.id: one for one in known}, list(records), list(warnings), Path(path))

    return read


def test_the_last_record_of_an_identity_counts(read, make_record):
    material = gather([read(make_record(wall_s=1.0), make_record(wall_s=2.0))], [])
    assert [entry.record.wall_s for entry in material.entries] == [2.0]


def test_fresh_records_leave_committed_evidence_alone(read, make_record):
    record = make_record()
    material = gather([read(record), read(record, path="results/cpu/old.jsonl")], [])
    assert [(entry.id, entry.committed) for entry in material.entries] == [
        (record.key, False),
        (f"{record.key}~2", True),
    ]


def test_the_file_of_a_record_is_the_last_that_has_it(read, make_record):
    first, again = make_record(), make_record(wall_s=2.0)
    other = make_record(seed=1)
    predicted = make_record(source="predicted")
    files = [read(first, other, path="a.jsonl"), read(again, predicted, path="b.jsonl")]
    found = {(entry.record.seed, entry.record.source): entry.file for entry in gather(files, []).entries}
    assert found == {(0, "measured"): "b.jsonl", (1, "measured"): "a.jsonl", (0, "predicted"): "b.jsonl"}


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("results/cpu/a.jsonl", "results/cpu/a.jsonl"),
        ("../a.jsonl", "../a.jsonl"),
        ("{here}/results/a.jsonl", "results/a.jsonl"),
        ("/of/a/machine/a.jsonl", "a.jsonl"),
    ],
)
def test_a_file_is_named_without_its_place_on_a_machine(read, make_record, path, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    [entry] = gather([read(make_record(), path=path.format(here=tmp_path))], []).entries
    assert entry.file == named


def test_records_in_memory_have_no_file(make_record, environment):
    [entry] = gather([Results({environment.id: environment}, [make_record()])], []).entries
    assert entry.file is None


@pytest.mark.parametrize(
    ("path", "committed"),
    [("results/cpu/a.jsonl", True), ("results/a.jsonl", False), ("elsewhere/cpu/a.jsonl", False)],
)
def test_committed_is_what_lies_in_a_folder_below_results(read, path, committed):
    assert is_committed(read(path=path)) is committed


def test_environments_with_committed_records_alone_are_known(read, make_record, environment):
    other = replace(environment, id="ffffffffffff")
    old = make_record(environment=other.id, seed=1)
    files = [read(make_record()), read(old, path="results/cpu/old.jsonl", environments=[other])]
    assert gather(files, []).committed_environments == {other.id}
    assert [machine.committed for machine in machines(gather(files, []))] == [False, True]


def test_environments_that_read_alike_are_one_machine(read, make_record, environment):
    gpu = {"number": 0, "max_sm_clock_mhz": 1980, "power_limit_w": 700.0, "ecc": True, "compute_capability": "9.0"}
    first, second, capped = (
        replace(environment, id=name * 12, gpu={**gpu, "number": int(name), "power_limit_w": watts})
        for name, watts in (("1", 700.0), ("2", 700.0), ("3", 350.0))
    )
    environments = [first, second, capped]
    records = [make_record(environment=one.id, seed=seed) for seed, one in enumerate([*environments, *environments])]
    files = [read(*records, environments=environments)]
    alone, alike = sorted(machines(gather(files, [])), key=lambda one: one.alike)
    assert (alone.environment, alone.alike, alone.records) == (capped, 1, 2)
    assert alike.environment in (first, second)
    assert (alike.alike, alike.records) == (2, 4)
    told = dict(alike.facts)
    assert {name: told[name] for name in ("Highest SM clock", "Power limit", "ECC", "Compute capability")} == {
        "Highest SM clock": "1,980 MHz",
        "Power limit": "700 W",
        "ECC": "on",
        "Compute capability": "9.0",
    }


def test_a_label_tells_records_of_a_scenario_apart(read, make_record):
    material = gather([read(make_record(), make_record(repeat=1), make_record(case={"axes": ()}, seed=7))], [])
    assert sorted(entry.label for entry in material.entries) == ["#1", "4 #1", "4 #2"]
    # In one round there is nothing to count.
    material = gather([read(make_record(), make_record(case={"axes": ()}, seed=7))], [])
    assert sorted(entry.label for entry in material.entries) == ["4", "ranks"]


def test_names_have_the_round_where_the_scenario_has_several(read, make_record):
    records = [make_record(), make_record(repeat=1), make_record(case={"scenario": "other", "batch_size": 9})]
    names = [entry.name for entry in gather([read(*records)], []).entries]
    assert names == ["other[adapter.rank=4]", "ranks[adapter.rank=4] #1", "ranks[adapter.rank=4] #2"]


def test_the_figure_of_a_scenario_has_the_cases_that_others_ran_for_it(read, make_record):
    def ranks(rank: int, **options: Any) -> Record:
        return make_record({"adapter": Adapter(rank=rank), "axes": (("adapter.rank", rank),)}, **options)

    also = (AlsoIn("ranks", "ranks[adapter.rank=8]", (("adapter.rank", 8),)),)
    plain = make_record({"scenario": "lengths", "adapter": Adapter(), "axes": (("sequence_length", 512),)}, also=also)
    drawn = {panel.scenario: panel for panel in panels(gather([read(plain, ranks(64), ranks(4))], []))}
    assert [row.label for row in drawn["ranks"].rows] == ["4", "8", "64"]
    assert [row.label for row in drawn["lengths"].rows] == ["512"]
    # Rounds are numbered in the scenarios that have several.
    more = [plain, replace(plain, repeat=1), ranks(4), make_record({"scenario": "other", "batch_size": 9, "axes": ()})]
    drawn = {panel.scenario: panel for panel in panels(gather([read(*more)], []))}
    assert [row.label for row in drawn["ranks"].rows] == ["4 #1", "8 #1", "8 #2"]
    assert [row.label for row in drawn["other"].rows] == ["other"]


def test_what_did_not_end_ok_comes_with_its_reason(read, make_record, failed_record):
    found = caveats(gather([read(make_record(), failed_record)], []))
    (one,) = found.unfinished
    assert (one.where, one.reason) == ("forward", "RuntimeError: no such kernel")
    assert found.statuses == {"failed": 1}
    assert found.any


def test_a_long_message_is_cut_in_lists(read, failed_record):
    assert failed_record.error is not None
    long = replace(failed_record, error=replace(failed_record.error, message="x" * 100_000))
    (one,) = caveats(gather([read(long)], [])).unfinished
    assert len(one.reason) < 1000
    assert one.reason.endswith("…")


def test_unstable_times_warnings_and_torn_files_are_told(read, make_record):
    shaky = Timing((0.01, 0.02), 0.015, (0.01, 0.02), unstable=True, reason="drift: +9.0%")
    record = make_record(latency={"step": shaky}, observations={"warnings": ["the GPU throttled"]})
    found = caveats(gather([read(record, warnings=["a.jsonl:3: the last line is torn"])], []))
    assert [one.text for one in found.unstable] == ["step: drift: +9.0%"]
    assert [one.text for one in found.remarks] == ["the GPU throttled"]
    assert found.files == ("a.jsonl:3: the last line is torn",)


def test_nothing_to_say_about_sound_records(read, make_record):
    assert not caveats(gather([read(make_record())], [])).any


def test_devices_and_versions_that_differ_are_incomparable(environment):
    other = replace(
        environment,
        id="ffffffffffff",
        device=EnvironmentDevice("cuda", "A GPU", 1 << 30),
        versions={**environment.versions, "torch": "2.11.0"},
        gpu={"others": {"processes": 2, "used_bytes": 512 << 20}},
    )
    devices, versions, shared = incomparable([environment, other])
    assert "A GPU (cuda), Imaginary CPU (cpu)" in devices
    assert versions == "Records were made with different versions of torch: 2.11.0, 2.13.0+cpu."
    assert "2 other processes" in shared
    assert "512 MiB" in shared
    assert incomparable([environment]) == []


def test_predictions_are_named_as_such(read, make_record):
    predicted = make_record(source="predicted", device=RecordDevice("fake", "A GPU"))
    assert devices(gather([read(predicted)], []).entries) == ("A GPU (predicted)",)


def test_what_was_measured_gets_a_figure_before_predictions(read, make_record):
    names = [f"s{number:02}" for number in range(MOST_FIGURES)]
    records = [
        make_record({"scenario": name, "seed": seed}, source=source)
        for seed, name in enumerate(names)
        for source in ("measured", "predicted")
    ]
    material = gather([read(*records[:-1])], [])
    drawn = panels(material)
    assert [panel.scenario for panel in drawn] == names
    assert {panel.device for panel in drawn} == {"Imaginary CPU"}
    assert left_out(material) == ("Imaginary CPU (predicted)",) * (MOST_FIGURES - 1)
    # Fewer measured than there is room for: predictions follow, in reading order.
    drawn = panels(gather([read(*records[:-10])], []))
    assert [panel.device for panel in drawn[:12]] == ["Imaginary CPU", "Imaginary CPU (predicted)"] * 5 + [
        "Imaginary CPU"
    ] * 2


def test_a_prediction_of_what_was_not_measured_gets_a_figure_before_one_of_what_was(read, make_record):
    names = [f"s{number:02}" for number in range(MOST_FIGURES - 1)]
    records = [
        # The prediction comes first in the file, and second in the report.
        *(
            make_record({"scenario": name, "seed": 1}, source=source)
            for name in names
            for source in ("predicted", "measured")
        ),
        make_record({"scenario": "alone", "seed": 1}, source="predicted"),
    ]
    drawn = panels(gather([read(*records)], []))
    assert [(panel.scenario, panel.device) for panel in drawn] == [
        ("alone", "Imaginary CPU (predicted)"),
        *((name, "Imaginary CPU") for name in names),
    ]
    drawn = panels(gather([read(*records[:4])], []))
    assert [panel.device for panel in drawn] == ["Imaginary CPU", "Imaginary CPU (predicted)"] * 2
