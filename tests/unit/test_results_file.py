"""Appending: one writer, nothing lost, nothing half-written left behind."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from lorabench.environment import EnvironmentDevice
from lorabench.errors import ResultsError
from lorabench.results import read_results
from lorabench.results_file import ResultsFile, describe_difference

OPEN = """
import pathlib, sys
from lorabench.results_file import ResultsFile
ResultsFile(pathlib.Path(sys.argv[1]), sys.argv[2])
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results.jsonl"


@pytest.fixture
def written(path, environment, make_record):
    """A file with one record."""
    with ResultsFile(path) as file:
        file.begin(environment)
        file.append(make_record())
    return path


def test_a_new_file_gets_its_folder_an_environment_and_records(tmp_path, environment, make_record):
    path = tmp_path / "a" / "b" / "results.jsonl"
    with ResultsFile(path) as file:
        file.begin(environment)
        for seed in range(3):
            file.append(make_record(case={"seed": seed}))
            assert [record.seed for record in read_results(path).records] == list(range(seed + 1))
    assert path.read_text().count('"type": "environment"') == 1


def test_an_existing_file_is_refused_and_left_alone(written):
    before = written.read_bytes()
    with pytest.raises(ResultsError, match=r"exists: .*--resume or --force"):
        ResultsFile(written)
    assert written.read_bytes() == before


def test_an_empty_file_counts_as_new(path, environment):
    path.touch()
    with ResultsFile(path) as file:
        file.begin(environment)
    assert read_results(path).environments


def test_replacing_waits_until_the_run_begins(written, environment, make_record):
    before = written.read_bytes()
    with ResultsFile(written, "replace") as file:
        assert written.read_bytes() == before
        file.begin(environment)
        file.append(make_record(case={"seed": 9}))
    assert [record.seed for record in read_results(written).records] == [9]


def test_replacing_needs_no_sound_file(written, environment, make_record):
    first, _, _ = written.read_bytes().partition(b"\n")
    written.write_bytes(first + b'\nnot a line\n{"type": "rec')
    with ResultsFile(written, "replace") as file:
        file.begin(environment)
        file.append(make_record(case={"seed": 9}))
    assert [record.seed for record in read_results(written).records] == [9]


@pytest.mark.parametrize(
    "content",
    [
        b"scenario: first\n",
        b"\n",
        b"[]\n",
        b'{"benchmarks": []}\n',
        b'{"type": ["record"]}\n',
        b'{"type": "envir',
        b"\xff\x00",
        b"[" * 100_000,
    ],
)
def test_only_a_results_file_is_replaced(path, content):
    path.write_bytes(content)
    with pytest.raises(ResultsError, match="not a results file, and nothing else is replaced"):
        ResultsFile(path, "replace")
    assert path.read_bytes() == content


def test_resuming_appends_and_does_not_repeat_the_environment(written, environment, make_record):
    with ResultsFile(written, "resume") as file:
        assert file.earlier.finished() == {make_record().identity}
        file.begin(environment)
        file.append(make_record(case={"seed": 1}))
    results = read_results(written)
    assert [record.seed for record in results.records] == [0, 1]
    assert written.read_text().count('"type": "environment"') == 1


def test_resuming_elsewhere_with_equal_versions_adds_an_environment(written, environment):
    with ResultsFile(written, "resume") as file:
        file.begin(replace(environment, id="later", git=None, lorabench="0.2.0"))
    assert set(read_results(written).environments) == {environment.id, "later"}


def test_resuming_cuts_off_a_torn_line(written, environment, make_record):
    sound = written.read_bytes()
    written.write_bytes(sound + b'{"type": "record", "na')
    with ResultsFile(written, "resume") as file:
        assert len(file.earlier.warnings) == 1
        file.begin(environment)
        assert written.read_bytes() == sound
        file.append(make_record(case={"seed": 1}))
    assert [record.seed for record in read_results(written).records] == [0, 1]


def test_resuming_behind_a_byte_order_mark_cuts_off_no_more_than_a_torn_line(written, environment, make_record):
    sound = b"\xef\xbb\xbf" + written.read_bytes()
    written.write_bytes(sound + b'{"type": "record", "na')
    with ResultsFile(written, "resume") as file:
        file.begin(environment)
        assert written.read_bytes() == sound
        file.append(make_record(case={"seed": 1}))
    assert [record.seed for record in read_results(written).records] == [0, 1]


def test_resuming_ends_an_unended_line(written, environment, make_record):
    written.write_bytes(written.read_bytes().rstrip(b"\n"))
    with ResultsFile(written, "resume") as file:
        file.begin(environment)
        file.append(make_record(case={"seed": 1}))
    assert [record.seed for record in read_results(written).records] == [0, 1]


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (
            {"device": EnvironmentDevice("cpu", "Other CPU", 1)},
            "made on cpu (Imaginary CPU), and this is cpu (Other CPU)",
        ),
        ({"device": EnvironmentDevice("fake", "Imaginary CPU", 1)}, "and this is fake (Imaginary CPU)"),
        ({"versions": {"torch": "2.11.0"}}, "made with peft 0.21.2, and this is none"),
    ],
)
def test_resuming_on_another_device_or_with_other_versions_is_refused(written, environment, change, difference):
    before = written.read_bytes()
    with ResultsFile(written, "resume") as file, pytest.raises(ResultsError, match="cannot be resumed") as refused:
        file.begin(replace(environment, id="other", **change))
    assert difference in str(refused.value)
    assert written.read_bytes() == before


def test_equal_environments_do_not_differ(environment):
    assert describe_difference(environment, replace(environment, id="x", os="other")) is None


@pytest.mark.parametrize("existing", ["refuse", "resume", "replace"])
def test_a_file_in_use_is_refused(path, environment, existing):
    with ResultsFile(path) as file:
        file.begin(environment)
        other = subprocess.run(
            [sys.executable, "-c", OPEN, str(path), existing], capture_output=True, text=True, check=False
        )
    assert "another run is writing into it" in other.stderr


@pytest.mark.parametrize("made_anew", [False, True])
def test_a_file_that_goes_between_opening_and_locking_is_not_written_into(path, monkeypatch, made_anew):
    """The run that held it finished nothing and removed it; a third one may have made it anew."""
    lock = fcntl.flock

    def late(fd, how):
        path.unlink()
        if made_anew:
            path.touch()
        lock(fd, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(ResultsError, match="another run has removed it"):
        ResultsFile(path)
    monkeypatch.undo()
    with ResultsFile(path) as file:
        assert file.records == 0


def test_the_lock_ends_with_the_run(written, environment):
    with ResultsFile(written, "resume"):
        pass
    with ResultsFile(written, "resume") as file:
        file.begin(environment)


def test_a_run_that_never_began_leaves_no_file(path):
    with ResultsFile(path):
        assert path.exists()
    assert not path.exists()


def test_what_is_no_regular_file_is_refused(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, tmp_path, tmp_path / "missing" / "x", "/dev/full"):
        if path == tmp_path / "missing" / "x":
            (tmp_path / "missing").touch()
        with pytest.raises(ResultsError) as refused:
            ResultsFile(type(tmp_path)(path), "replace")
        assert str(path) in str(refused.value)


@pytest.mark.parametrize("written_bytes", [0, 100])
def test_a_full_disk_leaves_whole_lines(written, environment, make_record, monkeypatch, written_bytes):
    before = written.read_bytes()
    write = os.pwrite
    calls = []

    def fill_up(fd, data, offset):
        calls.append(offset)
        if len(calls) > 1 or not written_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, bytes(data)[:written_bytes], offset)

    with ResultsFile(written, "resume") as file:
        file.begin(environment)
        monkeypatch.setattr(os, "pwrite", fill_up)
        with pytest.raises(
            ResultsError, match=r"No space left on device; the 1 record written before is kept; .*go on with --resume"
        ):
            file.append(make_record(case={"seed": 1}))
        assert written.read_bytes() == before
        monkeypatch.undo()
        file.append(make_record(case={"seed": 2}))
    assert [record.seed for record in read_results(written).records] == [0, 2]


def test_short_writes_are_completed(written, environment, make_record, monkeypatch):
    write = os.pwrite
    with ResultsFile(written, "resume") as file:
        file.begin(environment)
        monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: write(fd, bytes(data)[:100], offset))
        file.append(make_record(case={"seed": 1}))
    assert [record.seed for record in read_results(written).records] == [0, 1]


def test_an_interrupted_write_leaves_whole_lines(written, environment, make_record, monkeypatch):
    before = written.read_bytes()

    def interrupt(fd):
        raise KeyboardInterrupt

    with ResultsFile(written, "resume") as file:
        file.begin(environment)
        monkeypatch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            file.append(make_record(case={"seed": 1}))
    assert written.read_bytes() == before
