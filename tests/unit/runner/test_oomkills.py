from __future__ import annotations

import pytest

from lorabench.runner.oomkills import count_oom_kills

EVENTS = "low 0\nhigh 0\nmax 12\noom 3\noom_kill {}\noom_group_kill 0\n"
CONTROL = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"
VMSTAT = "nr_free_pages 5\noom_kill {}\n"


@pytest.fixture
def system(tmp_path):
    """Writes the files that the kernel would show; returns the count."""

    def count(memberships, **files):
        for name, text in {"proc/self/cgroup": memberships, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return count_oom_kills(tmp_path / "proc", tmp_path / "cgroup")

    return count


def test_version_2(system):
    files = {"cgroup/user/session/memory.events": EVENTS.format(4), "cgroup/memory.events": EVENTS.format(9)}
    assert system("0::/user/session\n", **files) == 4


def test_version_2_inside_a_container_with_the_hosts_path(system):
    assert system("0::/docker/abc\n", **{"cgroup/memory.events": EVENTS.format(2)}) == 2


def test_version_1(system):
    files = {"cgroup/memory/job/memory.oom_control": CONTROL.format(7)}
    assert system("9:cpu,cpuacct:/job\n4:memory:/job\n0::/\n", **files) == 7


def test_version_1_inside_a_container_with_the_hosts_path(system):
    files = {"cgroup/memory/memory.oom_control": CONTROL.format(1), "proc/vmstat": VMSTAT.format(8)}
    assert system("4:memory:/docker/abc\n", **files) == 1


def test_the_machines_counter_is_the_last_resort(system):
    assert system("0::/\n", **{"proc/vmstat": VMSTAT.format(8)}) == 8


def test_a_kernel_without_the_counter_is_passed_over(system):
    files = {"cgroup/memory.events": "low 0\noom 3\n", "proc/vmstat": "nr_free_pages 5\n"}
    assert system("0::/\n", **files) is None


def test_nothing_readable_is_none(tmp_path):
    assert count_oom_kills(tmp_path, tmp_path) is None


def test_this_machine_is_understood():
    count = count_oom_kills()
    assert count is None or count >= 0
