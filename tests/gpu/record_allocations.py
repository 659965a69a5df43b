"""Writes every allocation of some cases on this GPU from the start of their processes: the allocator's own history.

``python tests/gpu/record_allocations.py FILE KEY...`` takes cases by their keys from results/h100/. The evidence is
results/h100/allocations.jsonl.gz; tests/h100/test_allocations.py compares predictions with it.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lorabench.case import case_from_dict
from lorabench.environment import resolve_device
from lorabench.record import Record
from lorabench.results import read_results
from lorabench.runner.job import Emit, Job
from lorabench.runner.local import LocalLauncher

H100 = Path(__file__).parents[2] / "results" / "h100"
HISTORY_VARIABLE = "LORABENCH_TEST_HISTORY_FILE"


def record(job: Job, emit: Emit) -> None:
    """A worker that runs a case as the package's own does, and leaves its history in a file."""
    import torch

    from lorabench.runner import worker

    torch.cuda.memory._record_memory_history("all", context=None, max_entries=2_000_000)
    try:
        worker.run_job(job, emit)
    finally:
        [trace] = torch.cuda.memory._snapshot()["device_traces"]
        told = [(event["action"], event["addr"], event["size"]) for event in trace]
        Path(os.environ[HISTORY_VARIABLE]).write_text(json.dumps(told), encoding="utf-8")


def blocks(history: list[tuple[str, int, int]]) -> Iterator[int]:
    """Bytes of blocks above 512, the smallest: positive when taken, negative when given back."""
    for action, _, nbytes in history:
        whole = -(-nbytes // 512) * 512
        if whole > 512 and action in ("alloc", "free_completed"):
            yield whole if action == "alloc" else -whole


def line(measured: Record, history: list[tuple[str, int, int]]) -> dict[str, Any]:
    assert measured.memory is not None
    return {
        "key": measured.key,
        "name": measured.name,
        "events": list(blocks(history)),
        "segments": [[address, nbytes] for action, address, nbytes in history if action == "segment_alloc"],
        "peak_reserved_bytes": measured.memory.peak_reserved_bytes,
    }


def main(out: str, *keys: str) -> None:
    records = read_results(H100 / "scenarios.jsonl", H100 / "accuracy.jsonl").records
    known = {one.key: one for one in records}
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as folder, gzip.GzipFile(out, "wb", mtime=0) as file:
        os.environ[HISTORY_VARIABLE] = history = str(Path(folder) / "history.json")
        options = ["--worker", "record_allocations:record"]
        with LocalLauncher(resolve_device("cuda"), attribute=False, server_options=options) as launcher:
            for key in keys:
                measured = launcher.trace(case_from_dict(known[key].case))
                told = line(measured, json.loads(Path(history).read_text(encoding="utf-8")))
                file.write(json.dumps(told, separators=(",", ":")).encode() + b"\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
