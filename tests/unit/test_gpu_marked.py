"""`pytest -m gpu` finds every test marked so, and opens no CUDA in its own process while it looks for them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PLUGIN = """
import sys


def pytest_collection_finish(session):
    print("files", *{item.path.relative_to(session.config.rootpath / "tests").as_posix() for item in session.items})
    print("loaded", *{name.partition(".")[0] for name in sys.modules})
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "tell_collected.py").write_text(PLUGIN)
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "tell_collected", "--collect-only", "-q"]
    done = subprocess.run(
        command,
        cwd=TESTS.parent,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    lines = [line.split() for line in done.stdout.splitlines()]
    return {line[0]: set(line[1:]) for line in lines if line and line[0] in ("files", "loaded")}


def test_all_are_found(told: dict[str, set[str]]) -> None:
    marked = {
        path.relative_to(TESTS).as_posix()
        for path in TESTS.rglob("test_*.py")
        if "mark.gpu" in path.read_text(encoding="utf-8") and path != Path(__file__)
    }
    assert marked <= told["files"]
    # Marked by the parameter of a fixture.
    assert told["files"] - marked == {"benchmarks/test_own_cost.py", "benchmarks/test_step_time.py"}


def test_nothing_that_opens_cuda_is_imported(told: dict[str, set[str]]) -> None:
    """bitsandbytes asks for each device's compute capability, and peft imports it."""
    assert "pytest" in told["loaded"]
    assert not told["loaded"] & {"bitsandbytes", "peft"}
