"""One sample of a paired comparison: a process of its own, started with exec, which runs one job and ends.

Started as ``PYTHON -m lorabench.runner.sample``, with the protocol of :mod:`lorabench.runner.job` on two inherited
pipes. It says ``hello`` when its imports are done and sleeps in ``read`` until its job comes, which may be long after:
others are measured meanwhile. Until then it has run no tensor operation, so that it has no threads that spin, and it
leaves CUDA alone, so that it holds no memory there; ``holds_cuda`` of its hello says why where that failed.
Standard library, the torch stack and NVML only: it runs under foreign interpreters.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
from collections.abc import Sequence
from typing import Any, cast

from lorabench.interpreter import interpreter_facts
from lorabench.runner import child
from lorabench.runner.job import Worker, job_from_dict
from lorabench.runner.lastphase import LastPhase
from lorabench.runner.lines import LineReader, encode, write_all
from lorabench.runner.preload import DEFAULT_MODULES, capability_from_nvml, preload, prepare_environment, why_not_fork

DEFAULT_WORKER = "lorabench.runner.worker:run_job"


def main(arguments: Sequence[str] | None = None) -> None:
    options = _arguments(arguments)
    prepare_environment()
    child.die_with_parent(options.parent)
    child.be_first_to_go()
    with capability_from_nvml():
        preload(DEFAULT_MODULES)
        worker = _resolve(options.worker)
    # What keeps a process from forking children that use CUDA is that it uses CUDA itself.
    hello = {"event": "hello", "holds_cuda": why_not_fork(), "interpreter": interpreter_facts()}
    try:
        write_all(options.responses, encode(hello))
    except BrokenPipeError:
        return
    while (lines := LineReader(options.requests).read()) is not None:
        for line in lines:
            job = job_from_dict(json.loads(line))
            exit_status = 1
            try:
                exit_status = child.work(worker, job, options.responses, LastPhase(options.last_phase))
            finally:
                # No clean-up of a torch process: its memory goes back to the kernel faster this way.
                os._exit(exit_status)


def _resolve(name: str) -> Worker:
    module, _, attribute = name.partition(":")
    return cast(Worker, getattr(importlib.import_module(module), attribute))


def _arguments(arguments: Sequence[str] | None) -> Any:
    parser = argparse.ArgumentParser(prog="lorabench.runner.sample", description="One sample of lorabench ab.")
    parser.add_argument("--worker", default=DEFAULT_WORKER, help="MODULE:CALLABLE that runs the job")
    parser.add_argument("--parent", type=int, help="process id of the parent, on whose death the sample ends")
    parser.add_argument("--requests", type=int, help="file descriptor to read the job from")
    parser.add_argument("--responses", type=int, help="file descriptor to write events to")
    parser.add_argument("--last-phase", type=int, help="file descriptor of memory shared with the parent")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
