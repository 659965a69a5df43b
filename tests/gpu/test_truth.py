"""The bench's bytes against code that a user writes by hand, each case of both in a fresh process."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from machine import at_once

from lorabench.case import Case
from lorabench.catalog import describe
from lorabench.record import Record
from lorabench.runner import watch
from lorabench.runner.run import run
from lorabench.scenario import load_scenarios

pytestmark = pytest.mark.gpu

FOLDER = Path(__file__).parent
CASES = [
    case
    for scenario in load_scenarios([FOLDER / "truth.yaml", FOLDER / "truth-infer.yaml"], "cuda")
    for case in scenario.cases
]
EXACT = ("fp32", "fp16", "bf16")
QUANTIZED_TOLERANCE = 1e-3
COLUMNS = ("static_bytes", "peak_allocated_bytes")
PLAIN_AT_ONCE = at_once(7, each_gb=10)


Measured = tuple[dict[str, dict[str, Any]], dict[str, Record]]
"""By a case's name: what plain code measured, and the bench's record."""


def plain_spec(case: Case) -> dict[str, Any]:
    """The case in the words of plain.py."""
    preset = describe(case.model).preset
    assert preset is not None
    assert case.adapter is not None
    targets = case.adapter.target_modules
    return {
        "task": case.task,
        "model_type": preset.model_type,
        "config": dict(preset.config),
        "quantization": case.quantization,
        "int8_threshold": case.int8_threshold,
        "double_quantization": case.double_quantization,
        "kbit_preparation": case.kbit_preparation,
        "attention": case.attention,
        "gradient_checkpointing": case.gradient_checkpointing,
        "optimizer": case.optimizer,
        "rank": case.adapter.rank,
        "dropout": case.adapter.dropout,
        "target_modules": targets if isinstance(targets, str) else list(targets),
        "adapter_state": case.adapter_state,
        "batch_size": case.batch_size,
        "sequence_length": case.sequence_length,
        "new_tokens": case.new_tokens,
    }


def measure_plainly(case: Case) -> dict[str, Any]:
    command = [sys.executable, str(FOLDER / "plain.py"), json.dumps(plain_spec(case))]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr[-2000:]
    measured: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return measured


def measure_both(cases: list[Case]) -> Measured:
    """Beside each other, since bytes are each process's own: what plain code measures and what the bench does."""
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(PLAIN_AT_ONCE) as pool:
        # The plain processes stay on the GPU after a case of the bench.
        patch.setattr(watch, "GONE_WITHIN_S", 0)
        by_hand = pool.map(measure_plainly, cases)
        records = {record.name: record for record in run(cases, device="cuda")}
        return dict(zip([case.name for case in cases], by_hand, strict=True)), records


@pytest.fixture(scope="module")
def cases(request: pytest.FixtureRequest) -> list[Case]:
    """Those that are tested: ``-k`` may ask for a few."""
    names = {item.callspec.params["case"].name for item in request.session.items if item.module is request.module}
    return [case for case in CASES if case.name in names]


@pytest.fixture(scope="module")
def measured(cases: list[Case]) -> Measured:
    return measure_both(cases)


@pytest.fixture(scope="module", autouse=True)
def table(cases: list[Case], measured: Measured, request: pytest.FixtureRequest) -> None:
    """Write what was measured, with ``--truth-table FILE``, whether it agrees or not."""
    path = request.config.getoption("--truth-table")
    if path is None:
        return
    plain, bench = measured
    lines = ["case,quantity,plain_bytes,lorabench_bytes,difference_bytes"]
    for case in cases:
        memory = bench[case.name].memory
        for column in COLUMNS:
            by_hand, ours = plain[case.name][column], getattr(memory, column, None)
            difference = "" if ours is None else ours - by_hand
            lines.append(f'"{case.name}",{column},{by_hand},{"" if ours is None else ours},{difference}')
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_bytes_are_those_of_plain_code(case: Case, column: str, measured: Measured) -> None:
    plain, bench = measured
    record = bench[case.name]
    assert record.status == "ok", record.error
    ours, by_hand = getattr(record.memory, column), plain[case.name][column]
    if case.quantization in EXACT:
        assert ours == by_hand
    else:
        assert ours == pytest.approx(by_hand, rel=QUANTIZED_TOLERANCE)
