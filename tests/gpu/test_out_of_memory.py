"""A case that runs out of the GPU's memory says where, what it had and what it asked for, and the run goes on.

Where memory ends is where the test wants it: on a smaller card, imitated (see test_fits.py). A step of training holds
the base, what the layers keep for the backward pass, and the logits; these come in blocks of 1.96 GiB, and each of the
capacities ends a GiB or nearly so away from what the steps before such a block need.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from watched_workers import CAPACITY_FILE_VARIABLE

from lorabench.case import Case, Measure
from lorabench.catalog import PRESETS
from lorabench.environment import resolve_device
from lorabench.record import Record
from lorabench.runner.launcher import Work
from lorabench.runner.local import LocalLauncher

pytestmark = pytest.mark.gpu

GIB = 1 << 30
MODEL = "llama-3.2-1b"
MEASURE = Measure(warmup=1, steps=2, timeout_s=120)
TOO_LARGE = Case("too-large", "train", MODEL, batch_size=4, sequence_length=1024, measure=MEASURE)
NORMAL = replace(TOO_LARGE, scenario="normal", batch_size=1, sequence_length=128)
LOGITS_BYTES = 4 * TOO_LARGE.batch_size * TOO_LARGE.sequence_length * PRESETS[MODEL].config["vocab_size"]
"""In fp32. The loss asks for their copy, and its backward pass for their gradient."""


@pytest.fixture(scope="module")
def capacity_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("card") / "capacity"


@pytest.fixture(scope="module")
def launcher(capacity_file: Path) -> Iterator[LocalLauncher]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        patch.setenv(CAPACITY_FILE_VARIABLE, str(capacity_file))
        options = ["--worker", "watched_workers:on_smaller_card"]
        with LocalLauncher(resolve_device("cuda"), server_options=options) as launcher:
            yield launcher


@pytest.mark.parametrize(("phase", "capacity_gib"), [("forward", 12), ("backward", 14)])
def test_a_step_that_does_not_fit_is_an_oom_and_the_next_case_runs(
    phase: str, capacity_gib: int, capacity_file: Path, launcher: LocalLauncher
) -> None:
    capacity_file.write_text(str(capacity_gib * GIB), encoding="utf-8")
    full, after = launcher.run([Work((TOO_LARGE,)), Work((NORMAL,))])
    check_oom(full, phase, capacity_gib * GIB)
    assert after.status == "ok", after.error
    assert after.latency


def check_oom(record: Record, phase: str, capacity_bytes: int) -> None:
    assert record.status == "oom", record.error
    assert record.error is not None
    assert record.error.type == "OutOfMemoryError"
    assert record.error.phase == phase
    assert f"Tried to allocate {LOGITS_BYTES / GIB:.2f} GiB" in record.error.message
    assert "\n" not in record.error.message
    assert record.latency == {}
    memory = record.memory
    assert memory is not None
    assert memory.static_bytes is not None
    assert memory.peak_allocated_bytes is not None
    assert memory.peak_reserved_bytes is not None
    # The last peak: of the phases that ran, the one that ended in the error among them.
    reached = {name: seen.peak_bytes for name, seen in memory.phases.items() if name in ("forward", "backward")}
    assert list(reached)[-1] == phase
    assert memory.peak_allocated_bytes == max(reached.values())
    assert memory.static_bytes + LOGITS_BYTES < memory.peak_allocated_bytes <= memory.peak_reserved_bytes
    assert memory.dynamic_bytes == memory.peak_allocated_bytes - memory.static_bytes
    # What was asked for would have gone over the card's end, and nothing before it did.
    assert memory.peak_reserved_bytes <= capacity_bytes < memory.peak_reserved_bytes + LOGITS_BYTES
