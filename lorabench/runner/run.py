"""The whole way from cases to a results file."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from lorabench.case import Case
from lorabench.environment import EnvironmentDevice, resolve_devices
from lorabench.interpreter import interpreter_facts
from lorabench.record import FINISHED, Record
from lorabench.results_file import Existing, ResultsFile
from lorabench.runner.launcher import Launcher, NoProgress, Progress
from lorabench.runner.local import LocalLauncher
from lorabench.runner.naming import Naming
from lorabench.runner.plan import plan
from lorabench.runner.several import SeveralLaunchers


def run(
    cases: Sequence[Case],
    *,
    device: str = "auto",
    out: Path | None = None,
    existing: Existing = "refuse",
    exit_first: bool = False,
    python: str = sys.executable,
    trust_remote_code: bool = False,
    estimates: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Generator[Record, None, None]:
    """Runs ``cases`` on this machine and yields each record when it is finished and, with ``out``, on disk.

    ``device`` may name several GPUs of one model, ``cuda:0,cuda:1``: cases then run at the same time, one on each.
    ``existing`` says what to do if ``out`` holds something. ``seed`` draws the order of the cases. ``exit_first`` stops
    after the first record that is not ``ok``, and the rest of its group, which was measured with it. ``estimates`` puts
    what people use instead of a prediction into each record (:func:`lorabench.workload.estimates.estimates`). Close the
    generator to stop a run early; a ``KeyboardInterrupt`` does the same.

    Raises:
        DeviceError: a device is not there, torch cannot use it, or several are of different models.
        InputError: ``python`` cannot run cases.
        ResultsError: ``out`` is refused, or can no longer be written.
    """
    targets = resolve_devices(device)
    launchers = [
        LocalLauncher(
            target, python=python, trust_remote_code=trust_remote_code, estimates=estimates, progress=progress
        )
        for target in targets
    ]
    yield from run_with(
        launchers[0] if len(launchers) == 1 else SeveralLaunchers(launchers),
        cases,
        device=targets[0].device,
        out=out,
        existing=existing,
        exit_first=exit_first,
        seed=seed,
        progress=progress,
        versions=interpreter_facts()["versions"] if python == sys.executable else None,
    )


def run_with(
    launcher: Launcher,
    cases: Sequence[Case],
    *,
    device: EnvironmentDevice,
    out: Path | None = None,
    existing: Existing = "refuse",
    exit_first: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
    versions: Mapping[str, str] | None = None,
) -> Iterator[Record]:
    """As :func:`run`, on any launcher of ``device``; it is closed at the end.

    ``versions`` are those under which the launcher runs cases, where they are known without starting it. Then a file
    is held to them, too, in which nothing is left to run.
    """
    progress = progress or NoProgress()
    with ExitStack() as held:
        held.callback(launcher.close)
        file = held.enter_context(ResultsFile(out, existing)) if out else None
        works = plan(
            cases,
            device_name=device.name,
            # A prediction does not vary.
            repeated=device.type != "fake",
            finished=file.earlier.finished() if file else (),
            seed=seed,
        )
        progress.planned(sum(len(work.cases) for work in works))
        if file and works:
            for environment in launcher.environments:
                file.begin(environment)
        elif file and versions is not None:
            file.hold_to(device, versions)
        naming = Naming(cases)
        if file:
            for earlier in file.earlier.latest():
                if earlier.status in FINISHED and (named := naming.named(earlier)) != earlier:
                    file.append_anew(named)
        # How many of a group's records are to come. They come in a row once all its cases were measured, but one by one
        # where nothing is timed in turn.
        rest = Counter({(work.cases[0].group, work.repeat): len(work.cases) for work in works if work.grouped})
        stop = False
        for measured in launcher.run(works):
            record = naming.named(measured)
            if file:
                file.append(record)
            progress.finished(record)
            yield record
            part = (record.group, record.repeat)
            rest[part] -= 1
            stop = stop or (exit_first and record.status != "ok")
            if stop and (rest[part] <= 0 or device.type == "fake"):
                return
