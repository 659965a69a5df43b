"""Each way in which a worker can end badly becomes a record with the phase it ended in, and the run goes on."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import LIGHT_SERVER

from lorabench.environment import resolve_device
from lorabench.runner.launcher import Work
from lorabench.runner.local import LocalLauncher


def run_then_work(launcher, case, behave):
    """The record of ``case``, after checking that the next case still runs."""
    record, after = launcher.run([Work((case,)), Work((behave("work", number=1),))])
    assert after.status == "ok"
    assert after.error is None
    return record


@pytest.mark.parametrize(
    ("behaviour", "status", "error", "message", "phase"),
    [
        ("raise-error", "failed", "ValueError", "rank must be positive", "forward"),
        ("raise-memory-error", "oom", "MemoryError", "no 12 GiB in one piece", "backward"),
        ("exit-with-three", "failed", "ExitStatus", "exited with status 3", "attach"),
        ("forget-result", "failed", "NoResult", "the worker ended without a result", "merge"),
        ("segfault", "failed", "SIGSEGV", "killed by SIGSEGV", "backward"),
        ("kill-itself", "failed", "SIGKILL", "killed by SIGKILL", "optimizer"),
        ("answer-no-json", "failed", "TypeError", "not JSON serializable", None),
        ("answer-nan", "failed", "ValueError", "not JSON compliant", None),
        ("answer-malformed", "failed", "MalformedResult", "memory.static_bytes", None),
    ],
)
def test_an_ending_becomes_a_record(launcher, behave, behaviour, status, error, message, phase):
    record = run_then_work(launcher, behave(behaviour), behave)
    assert record.status == status
    assert record.error.type == error
    assert message in record.error.message
    assert record.error.phase == phase


@pytest.mark.parametrize(("behaviour", "phase"), [("hang-asleep", "decode"), ("hang-in-c", "prefill")])
def test_a_hang_is_stopped_at_the_time_out(launcher, behave, family, behaviour, phase):
    record = run_then_work(launcher, behave(behaviour, timeout_s=2.0), behave)
    assert record.status == "timeout"
    assert record.error.phase == phase
    assert "2 s" in record.error.message
    assert 2.0 <= record.wall_s < 20


def test_a_time_out_ends_what_the_worker_started(launcher, behave):
    record = run_then_work(launcher, behave("hang-with-offspring", timeout_s=2.0), behave)
    offspring = int(record.error.phase.removeprefix("pid "))
    assert not Path(f"/proc/{offspring}").exists() or is_zombie(offspring)


def is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_what_a_worker_prints_is_not_the_protocol(launcher, behave):
    record = run_then_work(launcher, behave("print-garbage"), behave)
    assert record.status == "ok"
    assert record.memory.static_bytes == 1000


def test_a_crash_tells_the_last_words_without_absolute_paths(launcher, behave):
    record = run_then_work(launcher, behave("say-last-words"), behave)
    assert record.error.type == "SIGABRT"
    assert "loading .../llama/weights.safetensors failed" in record.error.message
    assert "/home" not in record.error.message


def test_a_segmentation_fault_tells_the_line(launcher, behave):
    record = run_then_work(launcher, behave("segfault"), behave)
    assert "in segfault" in record.error.message
    assert "\n" not in record.error.message
    assert str(Path(__file__).parent) not in record.error.message


def test_a_worker_starts_clean(launcher, behave):
    first, second = launcher.run([Work((behave("tell-start"),)), Work((behave("tell-start"),))])
    for seen in (first.observations, second.observations):
        assert seen["leads_session"]
        assert seen["stdin"] == ""
        assert seen["threads"] == 1
        assert "torch" not in seen["modules"]
    assert first.observations["pid"] != second.observations["pid"]


def test_a_dead_server_is_replaced(launcher, behave, family):
    [before] = launcher.run([Work((behave("work"),))])
    record = run_then_work(launcher, behave("kill-server"), behave)
    assert before.status == "ok"
    assert record.status == "failed"
    assert record.error.type == "ServerDied"
    # The new server alone: the worker that killed the old one wanted to sleep for an hour.
    assert family.pids() == {launcher._server.pid}


def test_closing_ends_all_processes(launcher, behave, family):
    list(launcher.run([Work((behave("work"),))]))
    assert family.pids()
    launcher.close()
    assert not family.left_after()


def test_a_server_that_was_killed_between_jobs_is_replaced(launcher, behave):
    list(launcher.run([Work((behave("work"),))]))
    os.kill(launcher._server.pid, signal.SIGKILL)
    lost, after = launcher.run([Work((behave("work"),)), Work((behave("work"),))])
    assert lost.error.type == "ServerDied"
    assert after.status == "ok"


class MemoryCgroup:
    """A real cgroup with little memory, of whichever version the machine has."""

    LIMIT_BYTES = 100 << 20

    def __init__(self, folder: Path, limit_file: str) -> None:
        self.folder = folder
        self._limit_file = limit_file

    def __enter__(self) -> MemoryCgroup:
        self.folder.mkdir()
        try:
            # Opened for writing only: where no cgroups are mounted, the file is not there and must not be made.
            with (self.folder / self._limit_file).open("r+") as file:
                file.write(str(self.LIMIT_BYTES))
        except BaseException:
            self.folder.rmdir()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.folder.rmdir()

    def take(self, pid: int) -> None:
        (self.folder / "cgroup.procs").write_text(str(pid))


def memory_cgroups() -> Iterator[MemoryCgroup]:
    name = f"lorabench-test-{uuid.uuid4()}"
    yield MemoryCgroup(Path("/sys/fs/cgroup") / name, "memory.max")
    yield MemoryCgroup(Path("/sys/fs/cgroup/memory") / name, "memory.limit_in_bytes")


@pytest.fixture
def little_memory() -> Iterator[MemoryCgroup]:
    for cgroup in memory_cgroups():
        try:
            cgroup.__enter__()
        except OSError:
            continue
        yield cgroup
        cgroup.__exit__()
        return
    pytest.skip("no memory cgroup can be made here; test_ending.py covers the decision")


def test_the_kernels_out_of_memory_killer_makes_an_oom(little_memory, behave):
    with LocalLauncher(resolve_device("cpu"), server_options=LIGHT_SERVER) as launcher:
        assert launcher.environment
        little_memory.take(launcher._server.pid)
        record = run_then_work(launcher, behave("use-up-memory"), behave)
    assert record.status == "oom"
    assert record.error.type == "OutOfMemoryKill"
    assert record.error.phase == "backward"


def test_the_usual_server_has_imported_the_torch_stack_and_forks(behave):
    with LocalLauncher(resolve_device("cpu"), server_options=("--worker", "workers:run_job")) as launcher:
        [record] = launcher.run([Work((behave("tell-start"),))])
        assert launcher._server.hello["start"] == "fork"
        assert launcher._server.hello["not_preloaded"] == []
        assert launcher.environment.cpu["torch_threads"] >= 1
    assert {"torch", "transformers", "peft", "bitsandbytes"} <= set(record.observations["modules"])
    # No tensor operation was run before: threads of a pool would be missing in the child.
    assert record.observations["threads"] == 1


def test_a_server_in_which_an_import_opened_cuda_spawns_by_itself(behave):
    """Nothing asks it to: it finds the reason in its own process. The child is an interpreter without that import."""
    options = ("--worker", "workers:run_job", "--preload", "torch,claims_cuda")
    with LocalLauncher(resolve_device("cpu"), server_options=options) as launcher:
        first, second = launcher.run([Work((behave("tell-start"),)), Work((behave("tell-start", number=1),))])
        hello = launcher._server.hello
    assert hello["start"] == "spawn"
    assert hello["reason"] == "CUDA was initialised in torch by an import"
    assert hello["not_preloaded"] == []
    for record in (first, second):
        assert record.status == "ok", record.error
        assert not {"torch", "claims_cuda"} & set(record.observations["modules"])
    assert first.observations["pid"] != second.observations["pid"]
