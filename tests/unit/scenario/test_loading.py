"""Defaults, overrides, matrices, groups and options: what a scenario file expands to."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from lorabench.case import Adapter, Case, Measure
from lorabench.catalog import PRESETS, architecture
from lorabench.errors import ScenarioError
from lorabench.scenario import Scenario, load_scenarios

HEAD = "scenario: s\nquestion: What?\ntask: train\nmodel: llama-tiny\n"
INFER = HEAD.replace("train", "infer")

Load = Callable[..., Scenario]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load_text(
        text: str, device: str = "cpu", model: str | None = None, overrides: tuple[str, ...] = ()
    ) -> Scenario:
        path = tmp_path / "s.yaml"
        path.write_text(text, encoding="utf-8")
        (scenario,) = load_scenarios([path], device, model, overrides)
        return scenario

    return load_text


def names(scenario: Scenario) -> list[str]:
    return [case.name for case in scenario.cases]


def test_what_is_left_out_is_the_default(load: Load) -> None:
    (case,) = load(HEAD).cases
    assert case == Case("s", "train", "llama-tiny", architecture=PRESETS["llama-tiny"].digest)
    assert case.name == "s"


def test_every_key(load: Load, tmp_path: Path) -> None:
    scenario = load(
        """
scenario: s
question: >
  What,
  then?
task: train
model: smollm2-135m
weights: pretrained
quantization: nf4
compute_dtype: fp16
int8_threshold: 5
double_quantization: true
kbit_preparation: true
autocast: true
adapter:
  rank: 16
  alpha: 32
  dropout: 0.1
  target_modules: all-linear
  bias: lora_only
  task_type: SEQ_CLS
  rslora: true
  autocast_adapter_dtype: false
  options: {use_dora: true, rank_pattern: {q_proj: 4}, modules_to_save: [norm]}
adapter_count: 2
gradient_checkpointing: reentrant
use_cache: true
attention: eager
optimizer: adamw-8bit
learning_rate: 1e-4
data: text
batch_size: 2
sequence_length: 64
padding: 0.25
new_tokens: 8
seed: 7
measure: {warmup: 1, steps: 5, repeats: 2, timeout_s: 30}
"""
    )
    assert scenario.question == "What, then?"
    assert scenario.file == str(tmp_path / "s.yaml")
    assert scenario.cases == (
        Case(
            scenario="s",
            task="train",
            model="smollm2-135m",
            weights="pretrained",
            quantization="nf4",
            compute_dtype="fp16",
            int8_threshold=5.0,
            double_quantization=True,
            kbit_preparation=True,
            autocast=True,
            adapter=Adapter(
                rank=16,
                alpha=32.0,
                dropout=0.1,
                target_modules="all-linear",
                bias="lora_only",
                task_type="SEQ_CLS",
                rslora=True,
                autocast_adapter_dtype=False,
                options={"use_dora": True, "rank_pattern": {"q_proj": 4}, "modules_to_save": ["norm"]},
            ),
            adapter_count=2,
            gradient_checkpointing="reentrant",
            use_cache=True,
            attention="eager",
            optimizer="adamw-8bit",
            learning_rate=1e-4,
            data="text",
            batch_size=2,
            sequence_length=64,
            padding=0.25,
            new_tokens=8,
            seed=7,
            measure=Measure(1, 5, 2, 30.0),
            architecture=PRESETS["smollm2-135m"].digest,
        ),
    )


@pytest.mark.parametrize("text", ["1e-4", "1.0e-4", "0.0001", "1.0E-4"])
def test_spellings_of_a_number(load: Load, text: str) -> None:
    assert load(f"{HEAD}learning_rate: {text}\n").cases[0].learning_rate == 1e-4


def test_yaml_1_2_words_are_text(load: Load) -> None:
    assert load(HEAD.replace("What?", "no")).question == "no"


def test_matrix_is_every_combination_in_order(load: Load) -> None:
    scenario = load(HEAD + "matrix:\n  batch_size: [2, 1]\n  adapter.rank: [4, 8]\n")
    assert names(scenario) == [
        "s[batch_size=2,adapter.rank=4]",
        "s[batch_size=2,adapter.rank=8]",
        "s[batch_size=1,adapter.rank=4]",
        "s[batch_size=1,adapter.rank=8]",
    ]
    assert [(case.batch_size, case.adapter and case.adapter.rank) for case in scenario.cases] == [
        (2, 4),
        (2, 8),
        (1, 4),
        (1, 8),
    ]


def test_exclude_needs_every_key_to_match(load: Load) -> None:
    scenario = load(
        HEAD + "matrix: {batch_size: [1, 2], adapter.rank: [4, 8]}\nexclude: [{batch_size: 1, adapter.rank: 8}]\n"
    )
    assert names(scenario) == [
        "s[batch_size=1,adapter.rank=4]",
        "s[batch_size=2,adapter.rank=4]",
        "s[batch_size=2,adapter.rank=8]",
    ]


def test_exclude_by_a_default_and_by_the_adapter(load: Load) -> None:
    matrix = "matrix: {adapter: [none, {rank: 4}, {rank: 8}], batch_size: [1, 2]}\n"
    exclude = "exclude:\n  - {adapter: none, batch_size: 2, sequence_length: 512}\n  - {adapter: {rank: 8}}\n"
    assert names(load(HEAD + matrix + exclude)) == [
        "s[adapter=none,batch_size=1]",
        "s[adapter={rank:4},batch_size=1]",
        "s[adapter={rank:4},batch_size=2]",
    ]


def test_include_adds_cases_outside_the_matrix(load: Load) -> None:
    scenario = load(
        HEAD
        + "batch_size: 3\nmatrix: {batch_size: [1], adapter.rank: [4]}\n"
        + "include: [{adapter.rank: 256, adapter.alpha: 256}]\n"
    )
    assert names(scenario) == ["s[batch_size=1,adapter.rank=4]", "s[batch_size=3,adapter.rank=256,adapter.alpha=256]"]
    adapter = scenario.cases[1].adapter
    assert adapter is not None
    assert (scenario.cases[1].batch_size, adapter.rank, adapter.alpha) == (3, 256, 256.0)


def test_exclude_does_not_reach_include(load: Load) -> None:
    scenario = load(
        HEAD + "matrix: {batch_size: [1, 2]}\nexclude: [{batch_size: 2}]\ninclude: [{batch_size: 2, seed: 1}]\n"
    )
    assert names(scenario) == ["s[batch_size=1]", "s[batch_size=2,seed=1]"]


def test_lists_and_none_as_axis_values(load: Load) -> None:
    scenario = load(HEAD + "matrix: {adapter.target_modules: [[q_proj, o_proj], all-linear]}\n")
    assert names(scenario) == ["s[adapter.target_modules=q_proj+o_proj]", "s[adapter.target_modules=all-linear]"]
    assert [case.adapter and case.adapter.target_modules for case in scenario.cases] == [
        ("q_proj", "o_proj"),
        "all-linear",
    ]


def test_cases_that_measure_the_same_are_one(load: Load) -> None:
    matrix = "matrix: {quantization: [bf16, int8], int8_threshold: [6.0, 0.0]}\n"
    assert names(load(HEAD + matrix)) == [
        "s[quantization=bf16,int8_threshold=6]",
        "s[quantization=int8,int8_threshold=6]",
        "s[quantization=int8,int8_threshold=0]",
    ]


def test_seeds_are_cases_of_their_own(load: Load) -> None:
    assert [case.seed for case in load(HEAD + "matrix: {seed: [0, 1]}\n").cases] == [0, 1]


def test_no_adapter_is_the_base_model(load: Load) -> None:
    (case,) = load(INFER + "adapter: none\n").cases
    assert case.adapter is None
    assert case.adapter_state == "base"


@pytest.mark.parametrize(
    ("model", "targets", "task_type"),
    [
        ("gpt2", ("c_attn",), "CAUSAL_LM"),
        ("t5-small", ("q", "v"), "SEQ_2_SEQ_LM"),
        ("bert-base", ("query", "value"), "SEQ_CLS"),
        ("opt-125m", ("q_proj", "v_proj"), "CAUSAL_LM"),
    ],
)
def test_defaults_of_the_architecture(load: Load, model: str, targets: tuple[str, ...], task_type: str) -> None:
    for scenario in (load(HEAD.replace("llama-tiny", model)), load(HEAD, model=model)):
        adapter = scenario.cases[0].adapter
        assert adapter is not None
        assert (adapter.target_modules, adapter.task_type) == (targets, task_type)


def test_local_model(load: Load, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "n_positions": 32}')
    text = HEAD.replace("llama-tiny", str(tmp_path)) + "sequence_length: 32\n"
    (case,) = load(text).cases
    assert case.architecture == architecture(str(tmp_path)) != ""
    assert case.adapter is not None
    assert case.adapter.target_modules == ("c_attn",)
    with pytest.raises(ScenarioError, match="learned positions for 32"):
        load(text.replace("sequence_length: 32", "sequence_length: 33"))


def test_hub_id(load: Load) -> None:
    (case,) = load(HEAD.replace("llama-tiny", "owner/Name-1.0_b")).cases
    assert (case.model, case.architecture) == ("owner/Name-1.0_b", "")


def test_device_overrides_are_merged_key_by_key(load: Load) -> None:
    text = (
        HEAD
        + "adapter: {rank: 4, dropout: 0.1}\nmeasure: {warmup: 1, steps: 5}\n"
        + "matrix: {batch_size: [1, 2], seed: [0]}\nexclude: [{batch_size: 2}]\n"
        + "devices:\n  cuda:\n    model: llama-3.2-1b\n    adapter: {rank: 16}\n    measure: {steps: 30}\n"
        + "    matrix: {batch_size: [4, 8]}\n    exclude: []\n"
    )
    (case,) = load(text).cases
    assert (case.model, case.adapter, case.measure) == ("llama-tiny", Adapter(4, dropout=0.1), Measure(1, 5))
    on_cuda = load(text, "cuda")
    assert names(on_cuda) == ["s[batch_size=4,seed=0]", "s[batch_size=8,seed=0]"]
    assert on_cuda.cases[0].adapter == Adapter(16, dropout=0.1)
    assert on_cuda.cases[0].measure == Measure(1, 30)
    assert on_cuda.cases[0].architecture == PRESETS["llama-3.2-1b"].digest
    assert load(text, "fake").cases == on_cuda.cases


def test_device_can_drop_and_bring_back_the_adapter(load: Load) -> None:
    without = load(HEAD + "adapter: {rank: 4}\ndevices: {cuda: {adapter: none}}\n", "cuda")
    assert without.cases[0].adapter is None
    with_one = load(HEAD + "adapter: none\ndevices: {cuda: {adapter: {rank: 4}}}\n", "cuda")
    assert with_one.cases[0].adapter == Adapter(4)


def test_every_device_is_validated_on_any_device(load: Load) -> None:
    with pytest.raises(ScenarioError, match=r"devices\.cuda\.batch_size: must be at least 1"):
        load(HEAD + "devices: {cuda: {batch_size: 0}}\n", "cpu")


class TestGroups:
    MATRIX = "matrix: {batch_size: [1, 2], adapter_state: [base, merged]}\n"

    def test_cases_that_agree_on_the_other_axes(self, load: Load) -> None:
        scenario = load(INFER + self.MATRIX + "interleave: [adapter_state]\n")
        assert [case.group for case in scenario.cases] == ["s[batch_size=1]"] * 2 + ["s[batch_size=2]"] * 2

    def test_none_without_interleave(self, load: Load) -> None:
        assert {case.group for case in load(INFER + self.MATRIX).cases} == {None}

    def test_all_axes(self, load: Load) -> None:
        scenario = load(INFER + self.MATRIX + "interleave: [adapter_state, batch_size]\n")
        assert [case.group for case in scenario.cases] == ["s"] * 4

    def test_one_alone_compares_nothing(self, load: Load) -> None:
        exclude = "exclude: [{batch_size: 2, adapter_state: base}]\n"
        scenario = load(INFER + self.MATRIX + exclude + "interleave: [adapter_state]\n")
        assert [case.group for case in scenario.cases] == ["s[batch_size=1]", "s[batch_size=1]", None]

    def test_a_base_model_belongs_to_each_group_that_it_is_compared_in(self, load: Load) -> None:
        matrix = "matrix: {adapter.rank: [4, 8], adapter_state: [base, merged]}\ninterleave: [adapter_state]\n"
        cases = load(INFER + matrix).cases
        assert cases[0].key == cases[2].key
        assert [case.group for case in cases] == ["s[adapter.rank=4]"] * 2 + ["s[adapter.rank=8]"] * 2


class TestOptions:
    MATRIX = "matrix: {adapter.rank: [8, 64], batch_size: [1, 2]}\n"

    def test_set_fixes_an_axis(self, load: Load) -> None:
        scenario = load(HEAD + self.MATRIX, overrides=("adapter.rank=16",))
        assert names(scenario) == ["s[batch_size=1]", "s[batch_size=2]"]
        assert {case.adapter and case.adapter.rank for case in scenario.cases} == {16}

    def test_set_wins_over_the_device(self, load: Load) -> None:
        text = HEAD + "devices: {cuda: {batch_size: 4}}\n"
        assert load(text, "cuda", overrides=("batch_size=8",)).cases[0].batch_size == 8

    def test_set_reaches_include(self, load: Load) -> None:
        text = HEAD + self.MATRIX + "include: [{adapter.rank: 256, adapter.alpha: 256}, {adapter.rank: 4}]\n"
        scenario = load(text, overrides=("adapter.rank=16",))
        assert names(scenario) == ["s[batch_size=1]", "s[batch_size=2]", "s[batch_size=1,adapter.alpha=256]"]
        assert {case.adapter and case.adapter.rank for case in scenario.cases} == {16}

    def test_set_reaches_measure_and_the_last_wins(self, load: Load) -> None:
        scenario = load(HEAD, overrides=("measure.steps=3", "measure.steps=4", "learning_rate=1e-3"))
        assert scenario.cases[0].measure == Measure(steps=4)
        assert scenario.cases[0].learning_rate == 1e-3

    def test_set_of_lists_and_whole_adapters(self, load: Load) -> None:
        (case,) = load(HEAD, overrides=("adapter.target_modules=[k_proj]",)).cases
        assert case.adapter == Adapter(target_modules=("k_proj",))
        (case,) = load(HEAD + "adapter: {dropout: 0.1}\n", overrides=("adapter={rank: 2}",)).cases
        assert case.adapter == Adapter(2, dropout=0.1)
        scenario = load(HEAD + self.MATRIX, overrides=("adapter=none",))
        assert [case.adapter for case in scenario.cases] == [None, None]

    def test_set_inside_a_varied_adapter(self, load: Load) -> None:
        matrix = "matrix: {adapter: [none, {rank: 8}, {dropout: 0.1}]}\n"
        scenario = load(HEAD + matrix, overrides=("adapter.rank=16",))
        assert names(scenario) == ["s[adapter=none]", "s[adapter={rank:16}]", "s[adapter={dropout:0.1}]"]
        assert [case.adapter and case.adapter.rank for case in scenario.cases] == [None, 16, 16]

    def test_model_fixes_a_varied_model(self, load: Load) -> None:
        scenario = load(HEAD + "matrix: {model: [llama-tiny, llama-mini], seed: [0]}\n", model="gpt2")
        assert names(scenario) == ["s[seed=0]"]
        assert scenario.cases[0].model == "gpt2"

    def test_fixed_axis_leaves_interleave(self, load: Load) -> None:
        text = INFER + TestGroups.MATRIX + "interleave: [adapter_state]\n"
        scenario = load(text, overrides=("adapter_state=merged",))
        assert [case.group for case in scenario.cases] == [None, None]

    def test_exclude_may_match_nothing_then(self, load: Load) -> None:
        text = HEAD + self.MATRIX + "exclude: [{adapter.rank: 64, batch_size: 2}]\n"
        assert len(load(text, overrides=("adapter.rank=8",)).cases) == 2

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ("adapter.rnk=3", r"--set: adapter\.rnk: unknown key \(did you mean 'adapter\.rank'\?\)"),
            ("rank=3", r"--set: rank: unknown key; write adapter\.rank"),
            ("adapter.rank=x", r'--set: adapter\.rank: must be a whole number, not "x"'),
            ("adapter.rank=0", r"--set: adapter\.rank: must be at least 1"),
            ("adapter.rank", r"--set: 'adapter\.rank' must be KEY=VALUE"),
            ("=3", r"--set: '=3' must be KEY=VALUE"),
            ("adapter.rank=", r"--set: adapter\.rank: is empty; write a value after the ="),
            ("adapter.rank=[", r"--set: adapter\.rank:1: is not YAML"),
            ("batch_size=*a", r"--set: batch_size:1: aliases"),
            ("scenario=t", r"--set: scenario: unknown key"),
            ("matrix={}", r"--set: matrix: unknown key"),
            ("measure.step=3", r"--set: measure\.step: unknown key \(did you mean 'measure\.steps'\?\)"),
            ("kbit_preparation=true", r"--set: kbit_preparation: would turn .* \(in s\)"),
            ("a\nb=1", r"--set: a\\nb: unknown key"),
        ],
    )
    def test_refused_like_the_file(self, load: Load, option: str, message: str) -> None:
        with pytest.raises(ScenarioError) as caught:
            load(HEAD, overrides=(option,))
        assert re.match(message, str(caught.value)), str(caught.value)
        assert str(caught.value).isprintable()

    def test_settings_of_an_adapter_that_there_is_not(self, load: Load) -> None:
        with pytest.raises(ScenarioError, match=r"--set: adapter\.rank: the scenario has adapter: none"):
            load(HEAD + "adapter: none\n", overrides=("adapter.rank=3",))
        with pytest.raises(ScenarioError, match=r"cannot be set together with adapter=none"):
            load(HEAD, overrides=("adapter=none", "adapter.rank=3"))

    def test_unknown_model(self, load: Load) -> None:
        with pytest.raises(ScenarioError, match=r"^--model: unknown model 'gpt3' \(did you mean 'gpt2'\?\)"):
            load(HEAD, model="gpt3")


def test_a_file_named_twice_is_one_scenario(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(HEAD)
    (tmp_path / "b.yml").write_text(HEAD.replace("scenario: s", "scenario: t"))
    (tmp_path / "notes.txt").write_text("nothing")
    scenarios = load_scenarios([tmp_path / "b.yml", tmp_path, str(tmp_path / "a.yaml")], "cpu")
    assert [scenario.name for scenario in scenarios] == ["t", "s"]


def test_ten_thousand_cases_are_allowed(load: Load) -> None:
    scenario = load(HEAD + f"matrix:\n  seed: {list(range(100))}\n  batch_size: {list(range(1, 101))}\n")
    assert len(scenario.cases) == 10_000


class TestModelOption:
    """``--model`` narrows scenarios that name models of several kinds."""

    TASKS = (
        HEAD + "include:\n  - {adapter.task_type: SEQ_CLS}\n"
        "  - {model: t5-small, adapter.task_type: SEQ_2_SEQ_LM, adapter.target_modules: [q, v]}\n"
    )

    def test_a_case_that_the_model_cannot_be_is_left_out_and_told(self, load: Load) -> None:
        scenario = load(self.TASKS, model="llama-2-7b")
        assert [case.adapter.task_type for case in scenario.cases if case.adapter] == ["CAUSAL_LM", "SEQ_CLS"]
        [why] = scenario.left_out
        assert why.endswith(
            "s.yaml:7: include[1].adapter.task_type: llama-2-7b cannot be a SEQ_2_SEQ_LM model; it can be CAUSAL_LM, "
            "SEQ_CLS, TOKEN_CLS, FEATURE_EXTRACTION"
        )

    def test_the_files_own_model_is_refused_as_ever(self, load: Load) -> None:
        with pytest.raises(ScenarioError, match="llama-tiny cannot be a SEQ_2_SEQ_LM model"):
            load(HEAD + "adapter: {task_type: SEQ_2_SEQ_LM}\n")

    def test_a_model_that_can_be_no_case_is_refused(self, load: Load) -> None:
        with pytest.raises(ScenarioError, match="bert-base cannot be a SEQ_2_SEQ_LM model"):
            load(HEAD + "adapter: {task_type: SEQ_2_SEQ_LM}\n", model="bert-base")

    def test_nothing_is_left_out_without_the_option(self, load: Load) -> None:
        scenario = load(self.TASKS)
        assert len(scenario.cases) == 3
        assert scenario.left_out == ()
