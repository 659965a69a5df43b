"""A step on fake tensors is made of the operators that the same step has on the GPU, in their order.

What differs is listed here (``KNOWN``), with what it costs; ``--operators-table`` writes it with the bytes of each.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import pytest
from machine import this_card

from lorabench.case import Adapter, Case
from lorabench.environment import resolve_device
from lorabench.runner.local import LocalLauncher

pytestmark = pytest.mark.gpu

ALL_LINEAR = Adapter(rank=64, target_modules="all-linear")
CASES: dict[str, dict[str, Any]] = {
    "dense": {},
    "reentrant": {"gradient_checkpointing": "reentrant"},
    "non-reentrant": {"gradient_checkpointing": "non-reentrant"},
    "dropout": {"adapter": Adapter(dropout=0.1), "optimizer": "sgd"},
    "fp32-autocast": {"quantization": "fp32", "autocast": True},
    "fp16-eager": {"quantization": "fp16", "attention": "eager"},
    "int8": {"quantization": "int8", "int8_threshold": 0.0},
    "int8-prepared": {"quantization": "int8", "int8_threshold": 0.0, "kbit_preparation": True},
    "nf4": {"quantization": "nf4", "double_quantization": True, "optimizer": "adamw-8bit", "adapter": ALL_LINEAR},
    "opt": {"model": "opt-125m", "quantization": "fp16"},
    "gpt2": {"model": "gpt2", "adapter": Adapter(target_modules=("c_attn",))},
    "t5": {"model": "t5-small", "adapter": Adapter(target_modules=("q", "v"), task_type="SEQ_2_SEQ_LM")},
    "bert": {"model": "bert-base", "adapter": Adapter(target_modules=("query", "value"), task_type="SEQ_CLS")},
    "padded": {"padding": 0.25},
    "inference": {"task": "infer", "new_tokens": 4},
    "inference-int8": {"task": "infer", "new_tokens": 4, "quantization": "int8", "int8_threshold": 0.0},
}

READ_POSITIONS = (
    "slice.Tensor sub.Tensor cat.default slice.Tensor slice.Tensor sub.Tensor ne.Scalar cumsum.default select.int "
    "eq.Scalar all.default _local_scalar_dense.default"
)
READ_MASK = "sum.default eq.Scalar _local_scalar_dense.default"
KNOWN = {
    # transformers reads the positions' values for sequences packed into one row (find_packed_sequence_indices), which
    # the bench has none of: 15 KB at most, given back at once, at the start of the forward pass.
    ("", READ_POSITIONS),
    # It reads whether a mask masks anything, by a sum (_ignore_causal_mask_sdpa): up to 2 KB, likewise.
    ("all.default", READ_MASK),
    ("all.default", f"{READ_MASK} alias.default {READ_MASK}"),
    # Being followed changes the GPU's own step: with a mode on, scores are not added to in place
    # (areAnyTensorSubclassLike in _scaled_dot_product_attention_math). Nobody follows the step that is measured, and
    # the prediction is of that.
    ("add_.Tensor", "add.Tensor"),
    # A decoded token's attention has one row: its strides differ, and with them the way to the same product. No bytes.
    ("expand.default", ""),
    ("expand.default view.default bmm.default", "mm.default"),
}
"""Operators of the prediction, and those of the GPU that they stand for; all of ``aten``."""

Operator = tuple[str, int]
"""Its name with the overload, and the bytes of the blocks that its results took."""


@dataclass(frozen=True)
class Difference:
    """A run of operators that another run stands for on the other device."""

    fake: tuple[str, ...]
    cuda: tuple[str, ...]
    fake_bytes: int
    cuda_bytes: int


def differences(fake: list[Operator], cuda: list[Operator]) -> Iterator[Difference]:
    if [name for name, _ in fake] == [name for name, _ in cuda]:
        return
    matcher = SequenceMatcher(None, [name for name, _ in fake], [name for name, _ in cuda], autojunk=False)
    for tag, i, j, k, m in matcher.get_opcodes():
        if tag != "equal":
            yield Difference(
                tuple(name for name, _ in fake[i:j]),
                tuple(name for name, _ in cuda[k:m]),
                sum(nbytes for _, nbytes in fake[i:j]),
                sum(nbytes for _, nbytes in cuda[k:m]),
            )


def list_operators(device: str) -> dict[str, list[Operator]]:
    options = ["--worker", "watched_workers:list_operators"]
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        with LocalLauncher(resolve_device(device), server_options=options) as launcher:
            for name, settings in CASES.items():
                told = {"task": "train", "model": "llama-3.2-1b", "batch_size": 2, "sequence_length": 256, **settings}
                record = launcher.trace(Case(scenario=name, **told))
                assert record.status == "ok", record.error
                found[name] = [(operator, nbytes) for operator, nbytes in record.observations["operators"]]
    return found


@pytest.fixture(scope="module")
def operators(request: pytest.FixtureRequest) -> dict[str, tuple[list[Operator], list[Operator]]]:
    fake, cuda = list_operators(f"fake:{this_card().name}"), list_operators("cuda")
    found = {name: (fake[name], cuda[name]) for name in CASES}
    path = request.config.getoption("--operators-table")
    if path is not None:
        write(Path(path), found)
    return found


def write(path: Path, operators: dict[str, tuple[list[Operator], list[Operator]]]) -> None:
    """One row a case and kind of difference, with how often it occurs."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["case", "operators", "times", "predicted", "on the GPU", "predicted_bytes", "gpu_bytes"])
        for name, (fake, cuda) in operators.items():
            counts: dict[Difference, int] = {}
            for difference in differences(fake, cuda):
                counts[difference] = counts.get(difference, 0) + 1
            if not counts:
                writer.writerow([name, len(cuda), 0, "", "", 0, 0])
            for difference, times in counts.items():
                names = (" ".join(difference.fake), " ".join(difference.cuda))
                writer.writerow([name, len(cuda), times, *names, difference.fake_bytes, difference.cuda_bytes])


@pytest.mark.parametrize("name", CASES)
def test_the_operators_are_the_same(name: str, operators: dict[str, tuple[list[Operator], list[Operator]]]) -> None:
    fake, cuda = operators[name]
    assert {(told(one.fake), told(one.cuda)) for one in differences(fake, cuda)} - KNOWN == set()


def told(operators: tuple[str, ...]) -> str:
    return " ".join(name.removeprefix("aten.") for name in operators)
