"""The scenarios that ship with the bench ask what they say they ask, on every device."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from lorabench.case import Case
from lorabench.scenario import Scenario, load_scenarios

FOLDER = Path(__file__).parents[3] / "scenarios"
DEVICES = ("cpu", "cuda")
ON = {device: {scenario.name: scenario for scenario in load_scenarios([FOLDER], device)} for device in DEVICES}
LEARNING = {
    device: {scenario.name: scenario for scenario in load_scenarios([FOLDER / "learning"], device)}
    for device in DEVICES
}
SEVEN_B = {"llama-2-7b", "mistral-7b", "qwen2.5-7b"}
LARGE = {scenario.name: scenario for scenario in load_scenarios([FOLDER / "large"], "cuda")}
LIVES = {"lifecycle", "lifecycle-bias", "adapter-count"}
"""Held in test_lives.py."""


def values(scenario: Scenario, axis: str) -> list[object]:
    """The values of an axis, each once, in order."""
    return list(dict.fromkeys(dict(case.axes)[axis] for case in scenario.cases))


def all_cases(device: str) -> list[Case]:
    return [case for scenario in ON[device].values() for case in scenario.cases]


@pytest.mark.parametrize("device", ON)
def test_one_question_a_file_named_like_it(device: str) -> None:
    for name, scenario in (ON[device] | LEARNING[device] | LARGE).items():
        assert Path(scenario.file).stem == name
        assert scenario.question.endswith("?")


@pytest.mark.parametrize("device", ON)
@pytest.mark.parametrize(
    ("name", "axis", "expected"),
    [
        ("quantization", "quantization", ["fp32", "fp16", "bf16", "int8", "nf4"]),
        ("checkpointing", "gradient_checkpointing", ["none", "reentrant", "non-reentrant"]),
        ("checkpointing", "quantization", ["fp16", "bf16", "int8", "nf4"]),
        ("checkpointing-time", "gradient_checkpointing", ["none", "non-reentrant"]),
        ("cache", "use_cache", [False, True]),
        ("cache", "gradient_checkpointing", ["none", "reentrant", "non-reentrant"]),
        ("int8", "quantization", ["fp16", "int8"]),
        ("int8-inference", "quantization", ["fp16", "int8"]),
        ("adapter-latency", "adapter.rank", [8, 64]),
        ("adapter-latency", "adapter_state", ["base", "unmerged", "merged"]),
        (
            "task-types",
            "adapter.task_type",
            ["CAUSAL_LM", "SEQ_CLS", "TOKEN_CLS", "FEATURE_EXTRACTION", "SEQ_2_SEQ_LM"],
        ),
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
    inferred = {"adapter-state", "adapter-latency", "int8-inference"}
    for_claims = {"checkpointing-time", "cache", "task-types", "int8"}
    assert set(ON["cpu"]) == set(ON["cuda"]) == others | varied | inferred | for_claims | LIVES
    assert set(LEARNING["cpu"]) == set(LEARNING["cuda"]) == {"alpha", "int8-preparation", "schemes"}


@pytest.mark.parametrize("device", ON)
def test_int8_with_a_threshold_is_never_alone(device: str) -> None:
    """Outlier columns of random weights are an accident of the initialisation: threshold 0 is shown beside it."""
    for scenario in (ON[device] | LEARNING[device] | LARGE).values():
        int8 = [case for case in scenario.cases if case.quantization == "int8" and case.weights == "random"]
        assert {case.int8_threshold for case in int8} in (set(), {0.0}, {0.0, 6.0})
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
@pytest.mark.parametrize("name", ["adapter-state", "adapter-latency"])
def test_adapter_states_are_compared_in_one_process(device: str, name: str) -> None:
    groups = groups_of(ON[device][name])
    assert all(case.task == "infer" for case in ON[device][name].cases)
    assert all([case.adapter_state for case in group] == ["base", "unmerged", "merged"] for group in groups)


@pytest.mark.parametrize("device", ON)
@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("dropout", "adapter"),
        ("target-modules", "adapter"),
        ("checkpointing-time", "gradient_checkpointing"),
        ("cache", "use_cache"),
        ("int8", "quantization"),
        ("int8-inference", "quantization"),
    ],
)
def test_times_that_a_claim_compares_are_taken_in_turn(device: str, name: str, field: str) -> None:
    """A group's cases differ in what is compared and in nothing else."""
    for group in groups_of(ON[device][name]):
        first, *others = group
        assert others
        for case in others:
            assert getattr(case, field) != getattr(first, field)
            assert replace(case, axes=first.axes, **{field: getattr(first, field)}) == first


def groups_of(scenario: Scenario) -> list[list[Case]]:
    """The cases that are timed together; all cases of the scenario must be."""
    groups: dict[str | None, list[Case]] = {}
    for case in scenario.cases:
        groups.setdefault(case.group, []).append(case)
    assert None not in groups
    return list(groups.values())


@pytest.mark.parametrize("device", ON)
def test_what_claims_of_the_guide_need(device: str) -> None:
    cases = all_cases(device)
    latency = [case for case in cases if case.task == "infer" and case.adapter is not None]
    assert {case.quantization for case in latency} >= {"fp16", "int8"}
    assert len({case.batch_size for case in latency}) >= 2
    assert len({case.adapter.target_modules for case in latency if case.adapter is not None}) >= 3
    assert len({case.model for case in ON[device]["int8"].cases}) >= 3
    assert len({case.model for case in ON[device]["model-size"].cases}) >= 3
    assert {case.adapter is None for case in ON[device]["full-fine-tuning"].cases} == {True, False}
    assert {case.adapter is None for case in ON[device]["checkpointing-time"].cases} == {True, False}


def test_learning_is_from_real_text_with_several_seeds() -> None:
    for name, seeds in (("alpha", 3), ("int8-preparation", 8)):
        cases = LEARNING["cpu"][name].cases
        assert {(case.weights, case.data) for case in cases} == {("pretrained", "text")}
        assert {case.seed for case in cases} == set(range(seeds))
    assert {case.learning_rate for case in LEARNING["cpu"]["alpha"].cases} == {1e-3}
    [schemes] = LEARNING["cpu"]["schemes"].cases
    assert (schemes.task, schemes.weights, schemes.quantization) == ("lifecycle", "pretrained", "int8")


def test_each_scaling_meets_every_rank() -> None:
    scales: dict[str, set[int]] = {"alpha / rank": set(), "none": set(), "rank-stabilised": set()}
    for case in LEARNING["cpu"]["alpha"].cases:
        adapter = case.adapter
        assert adapter is not None
        if adapter.rslora:
            scales["rank-stabilised"].add(adapter.rank)
        elif adapter.alpha == 16:
            scales["alpha / rank"].add(adapter.rank)
        if adapter.alpha == adapter.rank and not adapter.rslora:
            scales["none"].add(adapter.rank)
    assert set(map(tuple, map(sorted, scales.values()))) == {(4, 16, 64)}


def test_cpu_cases_are_small() -> None:
    """`make bench` has five minutes on two cores, and a process costs over a second of each case."""
    cases = [case for case in all_cases("cpu") if case.task != "lifecycle"]
    processes = {(case.key, case.seed, case.group) for case in cases}
    assert len(processes) <= 140
    for case in cases:
        assert case.model in ("llama-tiny", "llama-mini", "opt-tiny", "smollm2-135m", "gpt2", "t5-small")
        assert case.batch_size * case.sequence_length <= 1024
        if case.model in ("gpt2", "t5-small"):
            assert case.sequence_length <= 64
        # A 16-bit backward pass without instructions for it is the slowest thing a CPU meets here.
        if case.task == "train" and case.quantization != "fp32":
            assert case.batch_size * case.sequence_length <= 32
            assert case.model != "smollm2-135m"


def test_cuda_cases_are_of_real_models() -> None:
    for case in all_cases("cuda"):
        assert "tiny" not in case.model
        if case.task == "lifecycle":
            assert case.measure.steps == 20
        elif case.group:
            # Each timed step has an untimed one before it; adapter-state's are the longest, dropout's differ least.
            assert case.measure.steps == {"adapter-state": 24, "dropout": 40}.get(case.scenario, 30)
        else:
            assert case.measure.steps == 60


def test_large_cases_are_of_7b_and_fit_a_gpu_of_80_gb() -> None:
    cases = [case for scenario in LARGE.values() for case in scenario.cases]
    assert {case.model for case in cases} == SEVEN_B
    # The 13 GiB of each arm's weights are there at once, and 18 GiB of one arm's step (predicted) come on top.
    assert max(Counter(case.group for case in cases if case.group).values()) == 3


def test_what_a_gpus_scenario_asks_is_asked_of_a_7b_model_too() -> None:
    of_7b = {name for name, scenario in ON["cuda"].items() if {case.model for case in scenario.cases} & SEVEN_B}
    assert of_7b == {"int8", "int8-inference", "model-size"}
    assert {name.removesuffix("-7b") for name in LARGE} | of_7b == set(ON["cuda"])


def test_what_one_large_scenario_asks_the_small_one_asks_too() -> None:
    for name, scenario in LARGE.items():
        small = ON["cuda"][name.removesuffix("-7b")]
        assert set(dict(scenario.cases[0].axes)) <= set(dict(small.cases[0].axes)) | {"quantization", "model"}
        assert scenario.cases[0].task == small.cases[0].task
