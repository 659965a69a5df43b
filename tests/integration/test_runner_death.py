"""The parent dies or is interrupted: no finished record is lost, and nothing that it started lives on."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from conftest import HERE, Family

from lorabench.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED
from lorabench.results import read_results
from lorabench.runner.connection import _EXIT_TIMEOUT_S

ROOT = HERE.parent.parent
KILLS = 100
AT_ONCE = 6
LONGEST_DELAY_S = 0.5
MOMENTS_SEED = 2


def start_parent(
    out: Path, *behaviours: str, family: Family, existing: str = "refuse", devices: int = 1, **options
) -> subprocess.Popen:
    name, _, value = family.mark.partition("=")
    variables = {name: value, "LORABENCH_TEST_DEVICES": str(devices)}
    return subprocess.Popen(
        [sys.executable, str(HERE / "parent.py"), str(out), existing, *behaviours],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)]), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def announced(output: str) -> set[int]:
    """The seeds of the records that the parent said were finished; its last line may be cut short."""
    lines = output.splitlines(keepends=True)
    return {int(line.split()[1]) for line in lines if line.startswith("finished ") and line.endswith("\n")}


def written(out: Path) -> set[int]:
    if not out.exists() or out.stat().st_size == 0:
        return set()
    return {record.seed for record in read_results(out).records}


def kill_at(moment: tuple[float, bool, int], out: Path) -> tuple[set[int], set[int], set[int]]:
    """Kills a busy parent. What it had announced, what is in its file, and which processes live on.

    ``moment`` is a delay in seconds, whether it counts from the first case's start or from the parent's, and on how
    many devices the parent runs cases.
    """
    delay_s, at_work, devices = moment
    family = Family()
    parent = start_parent(out, *["nap", "work"] * 200, family=family, devices=devices)
    if at_work:
        next(line for line in parent.stdout if line.startswith("started"))
    time.sleep(delay_s)
    parent.kill()
    left = family.left_after()
    output, _ = parent.communicate()
    return announced(output), written(out), left


def test_a_parent_killed_at_a_hundred_random_moments_loses_no_record_and_leaves_no_process(tmp_path):
    draw = random.Random(MOMENTS_SEED)
    moments = [
        (draw.uniform(0.0, LONGEST_DELAY_S), number % 4 != 0, 2 if number % 3 == 0 else 1) for number in range(KILLS)
    ]
    outs = [tmp_path / f"{number}.jsonl" for number in range(KILLS)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        ends = list(pool.map(kill_at, moments, outs))
    assert [said - kept for said, kept, _ in ends] == [set()] * KILLS
    assert [left for _, _, left in ends] == [set()] * KILLS
    # Most must have been killed while records were being written.
    assert sum(bool(said) for said, _, _ in ends) > KILLS / 2


def test_what_a_killed_run_left_can_be_resumed(tmp_path, family):
    out = tmp_path / "out.jsonl"
    behaviours = ["work"] * 5 + ["hang-asleep"]
    parent = start_parent(out, *behaviours, family=family)
    said = set()
    for line in parent.stdout:
        said |= announced(line)
        if line.startswith("phase") or len(said) >= 3:
            break
    parent.kill()
    parent.communicate()
    assert not family.left_after()
    before = written(out)
    again = start_parent(out, *["work"] * 6, family=family, existing="resume")
    output, _ = again.communicate(timeout=60)
    assert again.returncode == 0
    # Scenario names are not part of a case's identity: all six are the same cases as before.
    assert announced(output) == set(range(6)) - before
    assert written(out) == set(range(6))


@pytest.mark.parametrize("behaviour", ["hang-asleep", "hang-in-c"])
def test_ctrl_c_stops_the_child_and_leaves_a_valid_file(tmp_path, family, behaviour):
    out = tmp_path / "out.jsonl"
    parent = start_parent(out, behaviour, "nap", "nap", family=family, start_new_session=True)
    started = 0
    for line in parent.stdout:
        started = started + 1 if line.startswith("started") else started
        if line == "started 0\n":
            break
    os.killpg(parent.pid, signal.SIGINT)
    parent.communicate(timeout=30)
    assert parent.returncode == EXIT_INTERRUPTED
    assert not family.left_after()
    assert len(written(out)) == started - 1


def test_a_second_ctrl_c_waits_for_no_server(tmp_path, family):
    parent = start_parent(tmp_path / "out.jsonl", "hang-asleep", family=family, start_new_session=True)
    next(line for line in parent.stdout if line.startswith("started"))
    [server] = psutil.Process(parent.pid).children()
    # It is slow to end, whatever it is told.
    server.suspend()
    os.killpg(parent.pid, signal.SIGINT)
    time.sleep(0.5)
    assert parent.poll() is None
    interrupted = time.monotonic()
    os.killpg(parent.pid, signal.SIGINT)
    _, message = parent.communicate(timeout=30)
    assert time.monotonic() - interrupted < _EXIT_TIMEOUT_S - 1
    assert message == ""
    assert parent.returncode == EXIT_INTERRUPTED
    assert not family.left_after()


def test_ctrl_c_stops_the_children_of_all_devices(tmp_path, family):
    out = tmp_path / "out.jsonl"
    behaviours = ["hang-asleep", "hang-in-c", "work", "work"]
    parent = start_parent(out, *behaviours, family=family, devices=2, start_new_session=True)
    hanging = set()
    for line in parent.stdout:
        hanging |= {line} & {"started 0\n", "started 1\n"}
        if len(hanging) == 2:
            break
    os.killpg(parent.pid, signal.SIGINT)
    parent.communicate(timeout=30)
    assert parent.returncode == EXIT_INTERRUPTED
    assert not family.left_after()
    assert not written(out) & {0, 1}


def test_a_server_still_importing_dies_with_its_parent(tmp_path, family, monkeypatch):
    monkeypatch.setenv("LORABENCH_TEST_PRELOAD", "sleepy")
    parent = start_parent(tmp_path / "out.jsonl", "work", family=family)
    assert parent.stdout.readline() == "planned 1\n"
    deadline = time.monotonic() + 30
    while not any(b"sleepy" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in family.pids()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    parent.kill()
    parent.communicate()
    assert not family.left_after()


def test_a_server_killed_at_work_takes_its_child_along(tmp_path, family):
    parent = start_parent(tmp_path / "out.jsonl", "kill-server", family=family)
    parent.communicate(timeout=30)
    assert parent.returncode == 0
    assert not family.left_after()
    [record] = read_results(tmp_path / "out.jsonl").records
    assert record.error.type == "ServerDied"


def test_a_second_run_into_the_same_file_is_refused(tmp_path, family):
    out = tmp_path / "out.jsonl"
    first = start_parent(out, "hang-asleep", family=family)
    next(line for line in first.stdout if line.startswith("started"))
    for existing in ("refuse", "resume", "replace"):
        second = start_parent(out, "work", family=family, existing=existing)
        _, message = second.communicate(timeout=30)
        assert second.returncode == EXIT_BAD_INPUT
        assert "another run is writing" in message
        assert message.count("\n") == 1
    first.kill()
    first.communicate()


def test_a_full_disk_ends_the_run_with_a_message_and_keeps_what_was_written(tmp_path, family):
    limit_bytes = 5000
    out = tmp_path / "out.jsonl"
    parent = start_parent(
        out,
        *["work"] * 20,
        family=family,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes)),
    )
    output, message = parent.communicate(timeout=30)
    assert parent.returncode == EXIT_BAD_INPUT
    assert message.count("\n") == 1
    assert str(out) in message
    assert "--resume" in message
    assert 0 < len(announced(output)) < 20
    results = read_results(out)
    assert {record.seed for record in results.records} == announced(output)
    assert not results.warnings
    assert not family.left_after()
