"""lorabench: the test bench for LoRA fine-tuning.

The functions here do what the command line does. Importing the package is cheap: no torch, no pandas.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

from lorabench.case import Adapter, Case, Measure
from lorabench.errors import LorabenchError
from lorabench.record import Record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike
    from pathlib import Path

    import pandas as pd

    from lorabench.fitting import Answer
    from lorabench.results_file import Existing
    from lorabench.scenario import Scenario

__all__ = [
    "Adapter",
    "Case",
    "LorabenchError",
    "Measure",
    "Record",
    "__version__",
    "fit",
    "load",
    "load_scenarios",
    "predict",
    "run",
]


def load_scenarios(
    paths: Sequence[str | Path], device: str = "cpu", *, model: str | None = None, overrides: Sequence[str] = ()
) -> list[Scenario]:
    """The scenarios of files, or of the YAML files directly in folders, with their ``cases`` as ``device`` runs them.

    ``device`` is cpu, cuda or fake; ``model`` and ``overrides`` (``"adapter.rank=16"``) change every case.

    Raises:
        InputError: a path or a file is refused.
    """
    from lorabench import scenario

    return scenario.load_scenarios(paths, device, model=model, overrides=overrides)


def run(
    cases: Sequence[Case],
    *,
    device: str = "auto",
    out: Path | None = None,
    existing: Existing = "refuse",
    trust_remote_code: bool = False,
) -> list[Record]:
    """Run each of ``cases`` in a process of its own; with ``out``, write each record there as soon as it is known.

    ``device`` is auto, cpu, cuda or fake, or a list of GPUs of one model (``"cuda:0,cuda:1"``) that share the cases.
    What a case does wrong is in its record: ``failed``, ``oom``, ``timeout`` or ``invalid``. ``existing`` says what
    to do about a file that ``out`` names and that holds something already.

    Raises:
        DeviceError: the device is not there.
        ResultsError: ``out`` is refused, or can no longer be written.
    """
    from lorabench.runner.run import run as run_cases

    records = run_cases(cases, device=device, out=out, existing=existing, trust_remote_code=trust_remote_code)
    return list(records)


def predict(
    cases: Sequence[Case], *, gpu: str | None = None, out: Path | None = None, existing: Existing = "refuse"
) -> list[Record]:
    """:func:`run` on the ``fake`` device: the bytes that a GPU would use, without one.

    They are an H100's, or those of the card that ``gpu`` names (:data:`lorabench.catalog.CARDS`). A named card has a
    capacity: what does not fit ends as ``oom``, and ``observations["fits"]`` tells the headroom
    (:func:`lorabench.runner.on_card.run_on_card`).

    Raises:
        DeviceError: there is no such card.
    """
    from lorabench.catalog import find_card

    return run(cases, device=f"fake:{find_card(gpu).name}" if gpu else "fake", out=out, existing=existing)


def fit(
    cases: Sequence[Case], gpu: str, over: str = "batch_size", *, margin: str = "0", trust_remote_code: bool = False
) -> list[Answer]:
    """The largest ``over`` (batch_size, sequence_length or adapter.rank) with which each of ``cases`` fits a card.

    ``margin`` is kept free: a size (``"2GiB"``) or a share of what is usable (``"5%"``).

    Raises:
        DeviceError: there is no such card.
        InputError: ``over`` or ``margin`` is refused, or a case has no rank to search.
    """
    from lorabench.catalog import find_card
    from lorabench.fitting import find_largest

    return list(find_largest(cases, find_card(gpu), over, margin=margin, trust_remote_code=trust_remote_code))


def load(paths: str | PathLike[str] | Sequence[str | PathLike[str]], *, scenario: str | None = None) -> pd.DataFrame:
    """The records of results files, a row each; the columns are those of :data:`lorabench.analysis.columns.COLUMNS`.

    Where a case was run again, its last record alone counts. With ``scenario`` the rows are those of one scenario,
    under its own names: the cases, too, that were run for another one that shares them.

    Raises:
        InputError: no record is of ``scenario``.
        ResultsError: a file cannot be read, or is not a results file of this or an older version.
    """
    from lorabench.analysis.frame import load as load_frame

    return load_frame(paths, scenario=scenario)
