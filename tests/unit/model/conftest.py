"""Cases of tiny models, whose configurations lie in folders: a user's local path."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import ADAPTERS, CONFIGS, CPU, VOCABULARY
from torch import nn

from lorabench.case import Case
from lorabench.model import adapter as adapters
from lorabench.model.build import build_base
from lorabench.model.expectation import Expected
from lorabench.model.proof import check, count, expect, observe_step
from lorabench.record import Proof


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Models this small lose more to waking threads than they win."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder with a config.json for each architecture."""
    root = tmp_path_factory.mktemp("models")
    for name, config in CONFIGS.items():
        config.save_pretrained(root / name)
    return {name: root / name for name in CONFIGS}


@pytest.fixture
def make_case(folders: dict[str, Path]) -> Callable[..., Case]:
    """A training case of one of the tiny architectures; keywords replace its settings."""

    def make(architecture: str = "llama", **settings: Any) -> Case:
        defaults: dict[str, Any] = {"quantization": "fp32", "adapter": ADAPTERS[architecture]}
        return Case(**{"scenario": "s", "task": "train", "model": str(folders[architecture]), **defaults, **settings})

    return make


@dataclass
class Trained:
    """A case after two training steps, the second one watched."""

    case: Case
    model: nn.Module
    expected: Expected
    proof: Proof

    def check(self, device_type: str = "cpu") -> None:
        check(self.case, self.proof, self.expected, device_type)


@pytest.fixture
def train(make_case: Callable[..., Case]) -> Callable[..., Trained]:
    """Builds a case and trains two steps; ``meddle`` breaks the model after it is built, ``base`` before it is."""

    def run(
        case: Case | None = None, meddle: Callable[[nn.Module], Any] | None = None, base: nn.Module | None = None
    ) -> Trained:
        case = case or make_case()
        model: Any = base or build_base(case, CPU)
        expected = expect(model, case)
        model = adapters.attach(adapters.prepare(model, case), case)
        adapters.enable_checkpointing(model, case)
        if meddle is not None:
            meddle(model)
        optimizer = _optimizer(case, model)
        inputs = _inputs(case)

        def step() -> None:
            loss = model(**inputs).loss
            if loss.requires_grad:
                loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        step()
        with observe_step(model, case) as seen:
            step()
        return Trained(case, model, expected, count(model, case, CPU, seen, optimizer))

    return run


def _inputs(case: Case) -> dict[str, torch.Tensor]:
    ids = torch.randint(3, VOCABULARY, (2, 16), generator=torch.Generator().manual_seed(1))
    is_classifier = case.adapter is not None and case.adapter.task_type == "SEQ_CLS"
    return {"input_ids": ids, "labels": torch.tensor([0, 1]) if is_classifier else ids}


def _optimizer(case: Case, model: nn.Module) -> torch.optim.Optimizer:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if case.optimizer == "adamw-8bit":
        from bitsandbytes.optim import AdamW8bit

        optimizer: torch.optim.Optimizer = AdamW8bit(parameters, lr=1e-3)
        return optimizer
    return torch.optim.AdamW(parameters, lr=1e-3)
