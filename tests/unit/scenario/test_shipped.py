"""The scenarios that ship with the bench ask what they say they ask, on every device."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorabench.case import Case
from lorabench.scenario import Scenario, load_scenarios

FOLDER = Path(__file__).parents[3] / "scenarios"
ON = {device: {scenario.name: scenario for scenario in load_scenarios([FOLDER], device)} for device in ("cpu", "cuda")}


def values(scenario: Scenario, axis: str) -> list[object]:
    """The values of an axis, each once, in order."""
    return list(dict.fromkeys(dict(case.axes)[axis] for case in scenario.cases))


def all_cases(device: str) -> list[Case]:
    return [case for scenario in ON[device].values() for case in scenario.cases]


@pytest.mark.parametrize("device", ON)
def test_one_question_a_file_named_like_it(device: str) -> None:
    for name, scenario in ON[device].items():
        assert Path(scenario.file).stem == name
        assert scenario.question.endswith("?")


@pytest.mark.parametrize("device", ON)
@pytest.mark.parametrize(
    ("name", "axis", "expected"),
    [
        ("quantization", "quantization", ["fp32", "fp16", "bf16", "int8", "nf4"]),
        ("checkpointing", "gradient_checkpointing", ["none", "reentrant", "non-reentrant"]),
        ("checkpointing", "quantization", ["bf16", "int8", "nf4"]),
        ("rank", "adapter.rank", [1, 2, 4, 8, 16, 32, 64, 128, 256]),
        ("bias-modes", "adapter.bias", ["none", "all", "lora_only"]),
        ("kbit-preparation", "kbit_preparation", [False, True]),
        ("kbit-preparation", "quantization", ["int8", "nf4"]),
        ("optimizer", "optimizer", ["adamw", "sgd", "adamw-8bit"]),
        ("attention", "attention", ["sdpa", "eager"]),
        ("adapter-state", "adapter_state", ["base", "unmerged", "merged"]),
    ],
)
def test_what_is_varied(device: str, name: str, axis: str, expected: list[object]) -> None:
    assert values(ON[device][name], axis) == expected


def test_the_files_that_are_asked_for() -> None:
    others = {"batch-size", "sequence-length", "dropout", "target-modules", "full-fine-tuning", "model-size", "padding"}
    varied = {"quantization", "checkpointing", "rank", "bias-modes", "kbit-preparation", "optimizer", "attention"}
    assert set(ON["cpu"]) == set(ON["cuda"]) == others | varied | {"adapter-state"}


@pytest.mark.parametrize("device", ON)
def test_int8_with_a_threshold_is_never_alone(device: str) -> None:
    """Outlier columns of random weights are an accident of the initialisation: threshold 0 is shown beside it."""
    for scenario in ON[device].values():
        thresholds = {case.int8_threshold for case in scenario.cases if case.quantization == "int8"}
        assert thresholds in (set(), {0.0}, {0.0, 6.0})
    assert {case.int8_threshold for case in ON[device]["quantization"].cases if case.quantization == "int8"} == {
        0.0,
        6.0,
    }


@pytest.mark.parametrize("device", ON)
def test_every_8_bit_optimizer_has_8_bit_state(device: str) -> None:
    """bitsandbytes keeps fp32 state for tensors under 4,096 elements; adapters here have at least rank x 256."""
    for case in all_cases(device):
        if case.optimizer == "adamw-8bit":
            assert case.adapter is not None
            assert case.adapter.rank * 256 >= 4096


@pytest.mark.parametrize("device", ON)
def test_adapter_states_are_compared_in_one_process(device: str) -> None:
    groups: dict[str | None, list[str]] = {}
    for case in ON[device]["adapter-state"].cases:
        assert case.task == "infer"
        groups.setdefault(case.group, []).append(case.adapter_state)
    assert None not in groups
    assert all(states == ["base", "unmerged", "merged"] for states in groups.values())


def test_cpu_cases_are_small() -> None:
    """`make bench` has five minutes on two cores, and a process costs over a second of each case."""
    cases = all_cases("cpu")
    processes = {(case.key, case.seed, case.group) for case in cases}
    assert len(processes) <= 70
    for case in cases:
        assert case.model in ("llama-tiny", "llama-mini", "opt-tiny", "smollm2-135m")
        assert case.batch_size * case.sequence_length <= 1024
        # A 16-bit backward pass without instructions for it is the slowest thing a CPU meets here.
        if case.task == "train" and case.quantization != "fp32":
            assert case.batch_size * case.sequence_length <= 32


def test_cuda_cases_are_of_real_models() -> None:
    for case in all_cases("cuda"):
        assert "tiny" not in case.model
        assert case.measure.steps == 30
