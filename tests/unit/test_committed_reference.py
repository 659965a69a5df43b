"""Committed records beside bytes of plain code on an H100, noted to a tenth of a MiB before there was a bench."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from lorabench.record import Record
from lorabench.results import read_results

RESULTS = Path(__file__).parents[2] / "results"
CARDS = ("h100", "h200")
MIB = 1 << 20
NOTED = {
    ("llama-3.2-1b", 4, "none"): (2361.4, 8825.3),
    ("llama-3.2-1b", 4, "non-reentrant"): (2361.4, 6084.0),
    ("llama-2-7b", 1, "none"): (12868.5, 15755.4),
    ("llama-2-7b", 4, "non-reentrant"): (12868.5, 14384.8),
}
PLAIN = {
    "task": "train",
    "quantization": "bf16",
    "sequence_length": 512,
    "attention": "sdpa",
    "optimizer": "adamw",
    "padding": 0.0,
    "use_cache": False,
}
RANK_8 = {"rank": 8, "dropout": 0.0, "bias": "none", "task_type": "CAUSAL_LM", "target_modules": ["q_proj", "v_proj"]}


def is_noted(record: Record, model: str, batch_size: int, checkpointing: str) -> bool:
    """Whether a record is of rank 8 on query and value, and as plain in all else."""
    case = record.case
    wanted = {**PLAIN, "model": model, "batch_size": batch_size, "gradient_checkpointing": checkpointing}
    adapter = case["adapter"] or {}
    return all(case[name] == value for name, value in wanted.items()) and all(
        adapter.get(name) == value for name, value in RANK_8.items()
    )


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize(("case", "noted"), NOTED.items(), ids=lambda value: str(value))
def test_a_record_has_the_bytes_that_were_noted(
    card: str, case: tuple[str, int, str], noted: tuple[float, float]
) -> None:
    files = [path for path in sorted((RESULTS / card).glob("*.jsonl")) if path.stem != "predicted"]
    found = [record.memory for record in read_results(*files).records if is_noted(record, *case)]
    assert found
    for memory in found:
        assert memory is not None
        assert memory.static_bytes is not None
        assert memory.peak_allocated_bytes is not None
        assert (round(memory.static_bytes / MIB, 1), round(memory.peak_allocated_bytes / MIB, 1)) == noted


@pytest.mark.parametrize("card", CARDS)
def test_the_table_of_plain_code_has_the_bytes_that_were_noted(card: str) -> None:
    name = "truth[quantization=bf16,gradient_checkpointing=non-reentrant,model=llama-2-7b,batch_size=1]"
    with (RESULTS / card / "truth.csv").open(encoding="utf-8", newline="") as file:
        found = {row["quantity"]: int(row["lorabench_bytes"]) for row in csv.DictReader(file) if row["case"] == name}
    assert {quantity: round(count / MIB, 1) for quantity, count in found.items()} == {
        "static_bytes": 12868.5,
        "peak_allocated_bytes": 13320.3,
    }
