"""How often the kernel's out-of-memory killer struck where this process lives. Standard library only.

Sources: ``oom_kill`` in cgroup v2's ``memory.events`` and cgroup v1's ``memory.oom_control`` (Linux,
Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst), and in ``/proc/vmstat`` outside of both.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def count_oom_kills(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """The counter of the innermost memory cgroup that can be read, else the machine's; None where there is neither.

    Children inherit the cgroup, so that a rise between a child's start and its death by SIGKILL tells why it died.
    """
    for file in (*_counter_files(proc, cgroups), proc / "vmstat"):
        count = _read_oom_kill(file)
        if count is not None:
            return count
    return None


def _counter_files(proc: Path, cgroups: Path) -> Iterator[Path]:
    try:
        memberships = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return
    for membership in memberships:
        hierarchy, controllers, path = membership.split(":", 2)
        inside = path.lstrip("/")
        # In a container the path is often that of the host, and the container's own cgroup is mounted at the top.
        if hierarchy == "0":
            for root in (cgroups, cgroups / "unified"):
                yield root / inside / "memory.events"
                yield root / "memory.events"
        elif "memory" in controllers.split(","):
            yield cgroups / "memory" / inside / "memory.oom_control"
            yield cgroups / "memory" / "memory.oom_control"


def _read_oom_kill(file: Path) -> int | None:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)
