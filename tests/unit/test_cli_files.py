"""Files that take no other's place: names that are free, and names of one file."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from lorabench.cli.files import refuse_overwriting, results_file
from lorabench.errors import InputError, ResultsError
from lorabench.results_file import ResultsFile

NAMES = ["20260102-030405-cpu.jsonl", "20260102-030405-cpu-2.jsonl", "20260102-030405-cpu-3.jsonl"]


@pytest.fixture(autouse=True)
def _one_second(tmp_path, monkeypatch):
    """In an empty folder, in a second that does not pass."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lorabench.cli.files.time.strftime", lambda _: "20260102-030405")


def left() -> list[str]:
    return sorted(path.name for path in Path("results").iterdir())


def test_runs_of_one_second_get_a_number(environment):
    with ExitStack() as running:
        paths = []
        for _ in NAMES:
            path = running.enter_context(results_file(None, "cpu"))
            running.enter_context(ResultsFile(path)).begin(environment)
            paths.append(path)
    assert paths == [Path("results") / name for name in NAMES]
    assert left() == sorted(NAMES)


def test_runs_that_start_at_once_share_no_file():
    together, taken = threading.Barrier(16), []

    def start() -> None:
        together.wait(timeout=60)
        with results_file(None, "cpu") as path:
            taken.append(path)
            together.wait(timeout=60)

    threads = [threading.Thread(target=start) for _ in range(together.parties)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(taken)) == len(threads)
    assert left() == []


def test_what_was_given_is_taken_and_not_made():
    with results_file(Path("a/out.jsonl"), "cpu") as path:
        assert path == Path("a/out.jsonl")
    assert list(Path().iterdir()) == []


def test_a_run_that_ends_before_it_writes_leaves_no_file():
    with pytest.raises(InputError), results_file(None, "cpu"):
        raise InputError("no such interpreter")
    assert left() == []


def test_the_file_of_the_next_run_is_left_alone():
    with ExitStack() as running:
        with results_file(None, "cpu") as path:
            with ResultsFile(path):
                pass
            assert running.enter_context(results_file(None, "cpu")) == path, "the name is free again"
        assert left() == [path.name]


def test_a_folder_that_cannot_be_is_one_line():
    Path("results").touch()
    with pytest.raises(ResultsError, match="results: is no folder"), results_file(None, "cpu"):
        pass


def test_files_are_told_apart_by_what_they_are():
    Path("a").touch()
    Path("linked").symlink_to("a")
    Path("hard").hardlink_to("a")
    Path("loop").symlink_to("loop")
    read = [("A", Path("a")), ("B", Path("linked"))]
    refuse_overwriting(read, {"--c": Path("new"), "--d": None, "--e": Path("loop")})
    for name in ("a", "./a", "linked", "hard"):
        with pytest.raises(InputError, match=r"^A and --c: both are "):
            refuse_overwriting([("A", Path("a"))], {"--c": Path(name)})
    with pytest.raises(InputError, match=r"^--c and --d: both are new"):
        refuse_overwriting([], {"--c": Path("./x/../new"), "--d": Path("new")})
