"""The baseline file: what it keeps, in which order, how it is written, and what it refuses to be."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorabench.analysis.gate import make_baseline, read_baseline, write_baseline
from lorabench.analysis.gate.baseline import current
from lorabench.analysis.gate.tolerances import Tolerance, fits, last_covering, parse_tolerance
from lorabench.case import Adapter
from lorabench.environment import EnvironmentDevice, Git
from lorabench.errors import InputError, ResultsError
from lorabench.record import AlsoIn, Memory, Proof
from lorabench.results import MalformedError, Results, read_results

TOLERANCE = {"type": "tolerance", "metric": "*", "case": "*", "bytes": 512}


@pytest.fixture
def results(environment, make_record):
    """Two cases, made on a machine with a name and a history, attributed and timed."""
    detailed = replace(environment, git=Git("0" * 40, dirty=True), cpu={"name": "Imaginary CPU"}, os="Imaginary Linux")
    observed = {"attribution": {"modules": {"layer.0": {"inputs": 3}}, "timeline": [1, 2, 3]}, "losses": [1.0]}
    records = [
        make_record(case={"adapter": Adapter(rank=rank), "axes": (("adapter.rank", rank),)}, observations=observed)
        for rank in (8, 4)
    ]
    return Results({environment.id: detailed}, records)


def made(results, before=None, keep=False):
    return make_baseline(results, results.records, before, keep=keep)


def test_it_keeps_what_is_compared_and_nothing_of_the_machine(tmp_path, results):
    path = tmp_path / "folder" / "baseline.jsonl"
    write_baseline(path, made(results))
    first, *records = map(json.loads, path.read_text().splitlines())
    assert (first["git"], first["cpu"], first["gpu"], first["os"]) == (None, {}, {}, "")
    assert [record["name"] for record in records] == ["ranks[adapter.rank=4]", "ranks[adapter.rank=8]"]
    for record in records:
        assert record["observations"] == {"attribution": {"modules": {"layer.0": {"inputs": 3}}}}
        assert record["latency"]["step"] == {**record["latency"]["step"], "samples_s": [], "median_s": 0.011}
        assert record["memory"] == json.loads(json.dumps(results.records[0].to_dict()["memory"]))
    # It is a results file like any other.
    assert len(read_results(path).records) == 2
    assert [path.name for path in path.parent.iterdir()] == ["baseline.jsonl"]


def test_it_reads_what_it_wrote_and_writing_it_again_changes_no_byte(tmp_path, results):
    path = tmp_path / "baseline.jsonl"
    before = replace(made(results), tolerances=(Tolerance("memory.static_bytes", 8, "ranks*", "rounding"),))
    write_baseline(path, before)
    text = path.read_bytes()
    read = read_baseline(path)
    assert read is not None
    assert read.tolerances == before.tolerances
    again = Results(results.environments, list(reversed(results.records)))
    write_baseline(path, made(again, read))
    assert path.read_bytes() == text


def test_a_prediction_whose_bytes_stayed_keeps_its_line(tmp_path, results):
    predictions = [replace(record, source="predicted", latency={}, tokens_per_s=None) for record in results.records]
    path = tmp_path / "baseline.jsonl"
    write_baseline(path, made(Results(results.environments, predictions)))
    before = path.read_text().splitlines()
    later = [replace(record, started_at="2027-01-01T00:00:00+00:00", wall_s=9.0) for record in predictions]
    later[0] = replace(later[0], memory=Memory(static_bytes=1))
    write_baseline(path, made(Results(results.environments, later), read_baseline(path)))
    after = path.read_text().splitlines()
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, True, False]


def test_a_scenario_that_shares_a_case_changes_no_line(tmp_path, results):
    predictions = [replace(record, source="predicted", latency={}, tokens_per_s=None) for record in results.records]
    path = tmp_path / "baseline.jsonl"
    write_baseline(path, made(Results(results.environments, predictions)))
    before = path.read_bytes()
    later = [replace(record, also=(AlsoIn("other", "other"),)) for record in predictions]
    write_baseline(path, made(Results(results.environments, later), read_baseline(path)))
    assert path.read_bytes() == before


def test_other_patch_releases_of_python_change_one_line_only(results):
    [environment] = results.environments.values()
    other = replace(environment, versions={**environment.versions, "python": "3.11.99"})
    ids = [set(made(Results({environment.id: one}, results.records)).environments) for one in (environment, other)]
    assert ids[0] == ids[1]
    newer = replace(environment, versions={**environment.versions, "peft": "99"})
    assert set(made(Results({environment.id: newer}, results.records)).environments) != ids[0]


def test_records_that_the_results_lack_go_or_stay(results, make_record):
    before = made(results)
    part = Results(results.environments, results.records[:1])
    assert [record.name for record in made(part, before).records] == ["ranks[adapter.rank=8]"]
    assert [record.name for record in made(part, before, keep=True).records] == [
        "ranks[adapter.rank=4]",
        "ranks[adapter.rank=8]",
    ]
    assert len(before.kept_by(made(part, before))) == 1


def test_several_environments_and_devices_share_a_file(tmp_path, results):
    [environment] = results.environments.values()
    card = replace(environment, id="other", device=EnvironmentDevice("cuda", "NVIDIA L4", 24 << 30))
    record = results.records[0]
    others = [replace(record, environment="other", device=replace(record.device, type="cuda", name="NVIDIA L4"))]
    path = tmp_path / "baseline.jsonl"
    both = Results({**results.environments, "other": card}, [*results.records, *others])
    write_baseline(path, made(both))
    read = read_baseline(path)
    assert read is not None
    assert (len(read.environments), len(read.records)) == (2, 3)


def test_an_update_with_a_case_that_did_not_end_ok_is_refused_by_name(results, failed_record):
    bad = Results(results.environments, [*results.records, failed_record])
    with pytest.raises(InputError, match=r"ranks\[adapter.rank=8\] \(failed\)"):
        made(bad)
    with pytest.raises(InputError, match="no record"):
        made(Results(results.environments, []))


def test_a_missing_file_is_none_and_a_torn_one_refused(tmp_path, results):
    path = tmp_path / "baseline.jsonl"
    assert read_baseline(path) is None
    write_baseline(path, made(results))
    path.write_bytes(path.read_bytes()[:-40])
    # No word of --update, which refuses the file too: it may have lost a tolerance.
    with pytest.raises(ResultsError, match=r"the last line is torn: take the file from git again$"):
        read_baseline(path)


def test_records_that_are_no_promise_are_told(tmp_path, results, failed_record):
    path = tmp_path / "results.jsonl"
    lines = [*results.environments.values(), results.records[1], failed_record]
    path.write_text("".join(json.dumps(line.to_dict()) + "\n" for line in lines))
    read = read_baseline(path)
    assert read is not None
    assert len(read.records) == 1
    assert "ranks[adapter.rank=8] (failed)" in read.warnings[0]


def test_records_that_contradict_each_other_are_told_and_the_last_counts(results):
    other = replace(results.records[0], memory=Memory(static_bytes=1))
    records, [warning] = current(Results(results.environments, [*results.records, other]), "file")
    assert "ranks[adapter.rank=8]" in warning
    assert other in records
    assert current(results, "file")[1] == []


def test_bytes_below_zero_are_refused(results):
    below = replace(results.records[0], memory=Memory(peak_allocated_bytes=-1))
    with pytest.raises(ResultsError, match="below 0"):
        current(Results(results.environments, [below]), "file")


def test_a_write_that_fails_leaves_the_old_file(tmp_path, results, monkeypatch):
    path = tmp_path / "baseline.jsonl"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResultsError, match="No space left"):
        write_baseline(path, made(results))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link_and_a_folder_is_refused(tmp_path, results):
    target, link = tmp_path / "target.jsonl", tmp_path / "link.jsonl"
    link.symlink_to(target)
    write_baseline(link, made(results))
    assert link.is_symlink()
    assert read_baseline(target) is not None
    with pytest.raises(ResultsError, match="not a regular file"):
        write_baseline(tmp_path, made(results))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bytes": -1}, "bytes: -1: a whole number of bytes, 0 or more"),
        ({"bytes": 1.5}, "bytes: 1.5"),
        ({"bytes": True}, "bytes: true"),
        ({"bytes": None}, "bytes: null"),
        ({"bytes": "512"}, 'bytes: "512"'),
        ({"metric": "memory.static"}, "did you mean 'memory.static_bytes'?"),
        ({"metric": "memory.peak_reserved_bytes"}, "is not judged"),
        ({"metric": "memory.phases..peak_bytes"}, "is not judged"),
        ({"metric": ["*"]}, "is not judged"),
        ({"metric": None}, "is not judged"),
        ({"case": ""}, "a case's key"),
        ({"case": {"a": 1}}, "a case's key"),
        ({"reason": 3}, "reason: 3"),
        ({"byte": 3}, "did you mean 'bytes'?"),
        ({"metric": "x" * 100_000}, "is not judged"),
    ],
)
def test_a_tolerance_that_is_none_is_refused_on_its_line(tmp_path, results, change, said):
    path = tmp_path / "baseline.jsonl"
    write_baseline(path, made(results))
    path.write_text(path.read_text() + json.dumps({**TOLERANCE, **change}) + "\n")
    with pytest.raises(ResultsError) as refused:
        read_baseline(path)
    message = str(refused.value)
    assert message.startswith(f"{path}:4: ")
    assert said in message
    assert message.isprintable()
    assert len(message) < 500


def test_a_results_file_has_no_tolerances(tmp_path, results):
    path = tmp_path / "baseline.jsonl"
    write_baseline(path, replace(made(results), tolerances=(Tolerance("*", 1),)))
    with pytest.raises(ResultsError, match="'tolerance' is neither"):
        read_results(path)


@given(st.dictionaries(st.text(max_size=8), st.none() | st.integers() | st.text() | st.booleans(), max_size=6))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_no_object_is_more_than_a_refusal(data):
    for line in (data, {**TOLERANCE, **data}):
        message = ""
        try:
            tolerance = parse_tolerance(line)
            assert parse_tolerance(tolerance.to_dict()) == tolerance
        except MalformedError as error:
            message = str(error)
        assert message.isprintable()


@given(st.text("ab*[", max_size=8), st.text("ab[", max_size=12))
def test_a_star_stands_for_anything_as_in_a_regular_expression(pattern, text):
    expression = ".*".join(re.escape(part) for part in pattern.split("*"))
    assert fits(pattern, text) == bool(re.fullmatch(expression, text, re.DOTALL))


def test_a_pattern_made_to_be_slow_is_not():
    assert not fits("*a" * 20_000 + "b", "a" * 40_000)


def test_a_tolerance_goes_by_key_by_name_and_by_phase(make_record):
    record = make_record(proof=Proof())
    phases = Tolerance("memory.phases.*.peak_bytes", 1, record.key)
    assert phases.covers("memory.phases.load.peak_bytes", record)
    assert not phases.covers("memory.static_bytes", record)
    named = Tolerance("memory.static_bytes", 2, "ranks[*=4]")
    assert last_covering([phases, named], "memory.static_bytes", record) == named
    assert last_covering([phases], "memory.static_bytes", record) is None
