"""What `lorabench fit` says to be the largest value that fits does fit on a GPU, and the next one does not.

The answers were predicted without a GPU (results/h100/fit/answers.jsonl; results/h100/README.md says how). Each is
tried where the allocator gets what the answer's card leaves beside its margin, no byte more: a smaller card, imitated.
So they hold on every GPU that runs the answer's kernels, whatever its memory.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from machine import this_card
from watched_workers import CAPACITY_FILE_VARIABLE

from lorabench.case import case_from_dict
from lorabench.catalog import Card, find_card
from lorabench.environment import resolve_device
from lorabench.fitting.largest import with_value
from lorabench.record import Record
from lorabench.runner.local import LocalLauncher

pytestmark = pytest.mark.gpu

FILE = Path(__file__).parents[2] / "results" / "h100" / "fit" / "answers.jsonl"
ANSWERS = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
COLUMNS = ("answer", "capacity_bytes", "over", "value", "predicted", "measured", "peak_reserved_bytes")


@pytest.fixture(scope="module")
def rows(request: pytest.FixtureRequest) -> Iterator[list[dict[str, Any]]]:
    """What was tried; written with ``--fits-table FILE``, whether it is as predicted or not."""
    found: list[dict[str, Any]] = []
    yield found
    path = request.config.getoption("--fits-table")
    if path is not None:
        with Path(path).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(found)


class SmallerCard:
    """Runs values of an answer's case, one process each, with the answer's capacity."""

    def __init__(self, launcher: LocalLauncher, capacity_file: Path) -> None:
        self._launcher = launcher
        self._capacity_file = capacity_file

    def run(self, answer: dict[str, Any], value: int) -> Record:
        self._capacity_file.write_text(str(capacity_bytes(answer)), encoding="utf-8")
        case = replace(case_from_dict(answer["case"]), axes=tuple(map(tuple, answer["case"]["axes"])))
        # Bytes alone, no times: the passes that a prediction takes, too.
        return self._launcher.trace(with_value(case, answer["over"], value))


@pytest.fixture(scope="module")
def smaller_card(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallerCard]:
    capacity_file = tmp_path_factory.mktemp("card") / "capacity"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        patch.setenv(CAPACITY_FILE_VARIABLE, str(capacity_file))
        options = ["--worker", "watched_workers:on_smaller_card"]
        with LocalLauncher(resolve_device("cuda"), attribute=False, server_options=options) as launcher:
            yield SmallerCard(launcher, capacity_file)


def capacity_bytes(answer: dict[str, Any]) -> int:
    return int(answer["usable_bytes"] - answer["margin_bytes"])


def kernels(card: Card) -> tuple[object, ...]:
    """What decides which kernels run, and what they take."""
    return card.compute_capability, card.multiprocessors


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: f"{answer['name']}-{answer['over']}")
def test_the_value_fits_and_the_next_one_is_out_of_memory(
    answer: dict[str, Any], smaller_card: SmallerCard, rows: list[dict[str, Any]]
) -> None:
    card = this_card()
    if kernels(card) != kernels(find_card(answer["gpu"])):
        pytest.skip(f"the answer is for the kernels of {answer['gpu']}, and those of {card.name} are others")
    ended = {}
    for value, predicted in ((answer["largest"], "ok"), (answer["largest"] + 1, "oom")):
        record = smaller_card.run(answer, value)
        ended[value] = record.status
        reserved = record.memory.peak_reserved_bytes if record.memory else None
        told = (answer["name"], capacity_bytes(answer), answer["over"], value, predicted, record.status, reserved)
        rows.append(dict(zip(COLUMNS, told, strict=True)))
    assert ended == {answer["largest"]: "ok", answer["largest"] + 1: "oom"}
