"""The pytest plugin: the fixture ``lora_gate``, with which a library's own tests hold GPU memory.

Loaded by every pytest run where lorabench is installed, so that nothing heavy is imported before a test asks for it.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from os.path import relpath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from lorabench.case import Case
    from lorabench.record import Record

_MIB = 2**20
_LARGEST = 4
_UPDATE = "--lorabench-update"

Paths = str | Path | Sequence[str | Path]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("lorabench").addoption(
        _UPDATE, action="store_true", help="Write the baselines of lora_gate.check anew instead of comparing with them."
    )


@pytest.fixture
def lora_gate(request: pytest.FixtureRequest) -> LoraGate:
    """Holds GPU memory of LoRA training and inference: lora_gate.check("scenarios/step.yaml", max_peak_mib=...)."""
    return LoraGate(request)


class LoraGate:
    """What the fixture gives a test. Paths are relative to the folder of the test's file."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._folder = request.path.parent
        self._root = request.config.rootpath
        self._update = bool(request.config.getoption(_UPDATE))
        self._properties: list[tuple[str, object]] = request.node.user_properties

    def check(
        self,
        paths: Paths,
        k: str = "",
        *,
        device: str = "fake",
        gpu: str | None = None,
        model: str | None = None,
        set: Mapping[str, Any] | None = None,
        max_peak_mib: float | None = None,
        max_static_mib: float | None = None,
        max_dynamic_mib: float | None = None,
        baseline: str | Path | None = None,
        strict: bool = False,
    ) -> list[Record]:
        """Runs the cases of scenario files and fails the test unless each ends ``ok`` and keeps to what is given.

        Args:
            paths: scenario files, or folders of them, relative to the folder of the test's file.
            k: only cases whose name matches, as ``-k`` of the command line.
            device: ``fake`` predicts a GPU's bytes without one; ``auto``, ``cpu`` and ``cuda`` run the cases.
            gpu: the card to predict for, an H100 unless given; a case that does not fit a given card ends as ``oom``.
            model: use this model in every case.
            set: settings for every case, ``{"adapter.rank": 16}``.
            max_peak_mib: the most MiB that may be allocated at the peak of a steady step of any case.
            max_static_mib: the most MiB before the first step.
            max_dynamic_mib: the most MiB of the peak beyond the static ones.
            baseline: a file of this check alone that ``--lorabench-update`` writes: no byte more than in it.
            strict: with ``baseline``, fewer bytes and cases that it lacks fail, too.

        Returns:
            The records, for what else the test would ask of them. Their peaks become properties of the test, which
            ``--junit-xml`` writes.
        """
        __tracebackhide__ = True
        from lorabench.errors import LorabenchError
        from lorabench.wording import counted

        limits = {"static": max_static_mib, "dynamic": max_dynamic_mib, "peak allocated": max_peak_mib}
        refused = None
        try:
            _check_limits(max_static_mib=max_static_mib, max_dynamic_mib=max_dynamic_mib, max_peak_mib=max_peak_mib)
            cases = self._cases(paths, k, device, gpu, model, set or {})
            with tempfile.TemporaryDirectory(prefix="lora-gate-") as folder:
                results = Path(folder) / "results.jsonl"
                records = _run(cases, f"fake:{gpu}" if gpu else device, results)
                failures = list(_failures(records, limits))
                if baseline is not None:
                    failures += self._against(results, self._folder / baseline, strict)
        except LorabenchError as error:
            refused = str(error)
        if refused is not None:
            # Out here pytest shows the test's line and this one, and not the way to it.
            pytest.fail(f"lora_gate: {refused}")
        for record in records:
            if record.memory is not None and record.memory.peak_allocated_bytes is not None:
                self._properties.append((f"{record.name} peak_allocated_bytes", record.memory.peak_allocated_bytes))
        if failures:
            pytest.fail(
                "\n  ".join([f"lora_gate: {counted(len(records), 'case')}, not all as they must be:", *failures])
            )
        return records

    def _cases(
        self, paths: Paths, k: str, device: str, gpu: str | None, model: str | None, settings: Mapping[str, Any]
    ) -> list[Case]:
        from lorabench.catalog import find_card
        from lorabench.environment import resolve_device
        from lorabench.errors import InputError
        from lorabench.scenario import load_scenarios, select

        if gpu is not None and device != "fake":
            raise InputError(f"gpu={gpu!r} is the card of a prediction, and device={device!r} predicts nothing")
        if gpu is not None:
            find_card(gpu)
        several = [paths] if isinstance(paths, str | Path) else paths
        scenarios = load_scenarios(
            [self._found(path) for path in several],
            resolve_device(device).device.type,
            model,
            [f"{name}={_as_yaml(value)}" for name, value in settings.items()],
        )
        return select([case for scenario in scenarios for case in scenario.cases], k)

    def _found(self, path: str | Path) -> Path:
        from lorabench.errors import InputError

        found = self._folder / path
        if found.exists():
            return found
        there = self._root / path
        hint = f"; did you mean {relpath(there, self._folder)!r}?" if there.exists() else ""
        raise InputError(f"no file or folder {str(path)!r} in {self._folder}, where the test's file is{hint}")

    def _against(self, results: Path, baseline: Path, strict: bool) -> list[str]:
        """What the baseline has to say; nothing once it is written."""
        from lorabench.analysis.gate import Policy, judge, make_baseline, read_baseline, write_baseline
        from lorabench.report.gate.wording import causes, headline, named, verdict_line
        from lorabench.results import read_results

        found, before = read_results(results), read_baseline(baseline)
        records = found.latest()
        if self._update:
            write_baseline(baseline, make_baseline(found, records, before, keep=False))
            return []
        decision = judge(before, records, found.environments, Policy(strict=strict), str(baseline))
        if decision.verdict == "not comparable":
            return [f"{verdict_line(decision)} (pytest {_UPDATE} writes it anew)"]
        # A case that did not end ok has been told.
        worse = [one for one in decision.outcomes if decision.policy.fails_case(one) and one.kind != "not ok"]
        return [
            f"{named(one)}: {headline(one, decision)}" + "".join(f"\n    {cause}" for cause in causes(one))
            for one in worse
        ]


def _run(cases: Sequence[Case], device: str, out: Path) -> list[Record]:
    """The environments, which a baseline needs, stand in the file ``out`` alone."""
    import lorabench

    return lorabench.run(cases, device=device, out=out)


def _check_limits(**limits: Any) -> None:
    """Before anything runs: nothing is over NaN or infinity, and such a test would hold nothing."""
    from lorabench.errors import InputError
    from lorabench.wording import shown

    for name, limit in limits.items():
        if limit is None:
            continue
        if isinstance(limit, bool) or not isinstance(limit, Real) or not 0 <= float(limit) < math.inf:
            raise InputError(f"{name}={shown(limit)}: a number of MiB would be right, or None for no limit")


def _failures(records: Sequence[Record], limits: Mapping[str, float | None]) -> Iterator[str]:
    from lorabench.analysis.comparison import BYTES
    from lorabench.wording import one_line

    for record in records:
        if record.status != "ok":
            error = record.error
            reason = f": {error.type}: {error.message}" if error else ""
            where = f" in {error.phase}" if error and error.phase else ""
            yield one_line(f"{record.name}: {record.status}{where}{reason}")
            continue
        for metric, limit_mib in limits.items():
            n_bytes = getattr(record.memory, BYTES[metric], None)
            if limit_mib is None:
                continue
            if n_bytes is None:
                yield one_line(
                    f"{record.name}: {metric}: not known of this case, and so not below {limit_mib:,.1f} MiB"
                )
            elif n_bytes > limit_mib * _MIB:
                over = n_bytes - int(limit_mib * _MIB)
                yield one_line(
                    f"{record.name}: {metric}: {n_bytes:,} bytes ({n_bytes / _MIB:,.1f} MiB), over the limit of "
                    f"{limit_mib:,.1f} MiB by {over:,} bytes"
                ) + _largest(record)


def _largest(record: Record) -> str:
    """The biggest categories at the peak: where to look first."""
    categories = record.memory.categories if record.memory is not None else {}
    largest = sorted(categories.items(), key=lambda one: one[1], reverse=True)[:_LARGEST]
    told = ", ".join(f"{name.replace('_', ' ')} {size / _MIB:,.1f} MiB" for name, size in largest if size)
    return f"\n    at the peak: {told}" if told else ""


def _as_yaml(value: Any) -> str:
    """As the command line's ``--set KEY=VALUE`` takes it; JSON is YAML."""
    import json

    return value if isinstance(value, str) else json.dumps(value)
