"""Predicts one case on two cores, in the process that is started for it, and prints what that took as JSON.

Seconds are those of the job, from its start to its result, without the imports, which the bench's server makes once for
all cases. The resident set is the process's highest, imports included.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time

from lorabench.case import Case
from lorabench.runner.job import Job
from lorabench.runner.worker import run_job

CORES = 2


def main(model: str, quantization: str) -> None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    # worker imports the workloads; a device's libraries are imported when it is opened.
    import lorabench.device.fake  # noqa: F401

    case = Case("prediction-cost", "train", model, quantization=quantization)
    events: list[dict[str, object]] = []
    started = time.perf_counter()
    run_job(Job((case,), "single", "fake", repeat=0, timeout_s=600.0), events.append)
    job_s = time.perf_counter() - started
    [status] = [event["status"] for event in events if event["event"] == "result"]
    # In KiB on Linux.
    resident_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"status": status, "job_s": job_s, "resident_bytes": resident_bytes}))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
