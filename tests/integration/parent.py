"""A run in a process of its own, for tests that kill it: announces each record as a caller would, after it is on disk.

Usage: ``parent.py OUT EXISTING BEHAVIOUR...``, one case a behaviour. Exits as the command line would.
LORABENCH_TEST_DEVICES says on how many devices at once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lorabench.case import Case, Measure
from lorabench.environment import resolve_device
from lorabench.errors import EXIT_INTERRUPTED, LorabenchError
from lorabench.record import Record
from lorabench.runner.local import LocalLauncher
from lorabench.runner.run import run_with
from lorabench.runner.several import SeveralLaunchers

LIGHT_SERVER = ("--worker", "workers:run_job", "--preload", os.environ.get("LORABENCH_TEST_PRELOAD", ""))


class Announcer:
    def planned(self, cases: int) -> None:
        self._say(f"planned {cases}")

    def started(self, case: Case, repeat: int) -> None:
        self._say(f"started {case.seed}")

    def phase(self, case: Case, name: str) -> None:
        self._say(f"phase {case.seed} {name}")

    def finished(self, record: Record) -> None:
        self._say(f"finished {record.seed}")

    def warning(self, text: str) -> None:
        self._say(f"warning {text}")

    def _say(self, line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def main(out: str, existing: str, *behaviours: str) -> int:
    cases = [
        Case(behaviour, "train", "llama-tiny", seed=number, measure=Measure(timeout_s=60))
        for number, behaviour in enumerate(behaviours)
    ]
    target, announcer = resolve_device("cpu"), Announcer()
    launcher = SeveralLaunchers(
        [
            LocalLauncher(target, progress=announcer, server_options=LIGHT_SERVER)
            for _ in range(int(os.environ.get("LORABENCH_TEST_DEVICES", "1")))
        ]
    )
    try:
        for _ in run_with(launcher, cases, device=target.device, out=Path(out), existing=existing, progress=announcer):
            pass
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except LorabenchError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
