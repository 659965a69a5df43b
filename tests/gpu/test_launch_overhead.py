"""The launch-bound share of work whose share is known."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.gpu


def test_a_large_product_waits_for_nothing_and_small_additions_for_the_host() -> None:
    script = Path(__file__).parent / "profiled.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    # Kineto may have its say before.
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["shares"]["product"]["gpu_busy_share"] > 0.95, told
    # An addition of 16 numbers takes the GPU 1 to 2 microseconds, and its launch the host 3 or more.
    assert 0.05 < told["shares"]["additions"]["gpu_busy_share"] < 0.8, told
    # The profiler leaves the product as long as it is: wall time is that of the unprofiled one.
    assert told["busy_s"]["product"][0] == pytest.approx(min(told["wall_s"]["product"]), rel=0.1)
