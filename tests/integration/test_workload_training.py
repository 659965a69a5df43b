"""The training workload against a loop that a user writes by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from in_process import LLAMA, NO_PHASES, OPT, T5, Listener, built, measure, record, write_config
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM

from lorabench.case import Adapter, Case, Measure, Task
from lorabench.environment import Environment
from lorabench.errors import InputError
from lorabench.model.build import build_base
from lorabench.runner.job import Job
from lorabench.runner.worker import run_job
from lorabench.workload import training

MEASURE = Measure(warmup=1, steps=3)
UNTIMED_STEPS = 6
"""Four of the memory pass, the one that attribution follows, and the one that is watched."""


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_config(tmp_path_factory.mktemp("models") / "llama", "llama", LLAMA)


@pytest.fixture
def case(llama: str) -> Case:
    return Case(
        scenario="s",
        task="train",
        model=llama,
        quantization="fp32",
        learning_rate=1e-2,
        batch_size=2,
        sequence_length=16,
        measure=MEASURE,
    )


@pytest.fixture
def checkpoint(case: Case, tmp_path: Path) -> str:
    """The model of ``case`` with its weights, as save_pretrained writes it."""
    build_base(case, torch.device("cpu")).save_pretrained(tmp_path / "checkpoint")
    return str(tmp_path / "checkpoint")


def losses_by_hand(checkpoint: str, seed: int, dropout: float, steps: int) -> list[float]:
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    torch.manual_seed(seed)
    config = LoraConfig(
        r=8, lora_alpha=16, lora_dropout=dropout, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"
    )
    model = get_peft_model(model, config)
    model.train()
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-2)
    ids = torch.randint(256, (2, 16), generator=torch.Generator().manual_seed(seed))
    losses = []
    for _ in range(steps):
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
        optimizer.zero_grad()
    return losses


@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_the_losses_are_those_of_a_loop_by_hand_bit_for_bit(case: Case, checkpoint: str, dropout: float) -> None:
    assert case.adapter is not None
    adapter = replace(case.adapter, dropout=dropout)
    [result] = measure(replace(case, model=checkpoint, weights="pretrained", seed=3, adapter=adapter))
    assert result["status"] == "ok"
    steps = UNTIMED_STEPS + MEASURE.warmup + MEASURE.steps
    by_hand = losses_by_hand(checkpoint, seed=3, dropout=dropout, steps=steps)
    assert result["observations"]["losses_from_step"] == UNTIMED_STEPS
    assert result["observations"]["losses"] == by_hand[UNTIMED_STEPS:]
    assert by_hand[-1] < by_hand[0] - 0.01


def test_training_arms_that_are_timed_in_turn_keep_their_losses(case: Case) -> None:
    both = [replace(case, gradient_checkpointing=mode, group="g") for mode in ("none", "non-reentrant")]
    plain, checkpointed = measure(*both, mode="timing")
    assert plain["observations"]["losses_from_step"] == 0
    # An untimed step goes before each timed one.
    assert len(plain["observations"]["losses"]) == MEASURE.warmup + 2 * MEASURE.steps
    assert plain["observations"]["turn_steps"] == 1
    # Recomputation repeats the same operations on the same numbers.
    assert plain["observations"]["losses"] == checkpointed["observations"]["losses"]
    assert [len(samples) for samples in plain["latency"].values()] == [MEASURE.steps] * 4


@pytest.mark.parametrize("quantization", ["fp32", "int8", "nf4"])
def test_training_changes_the_adapter_and_nothing_else(case: Case, quantization: Any) -> None:
    [result] = measure(replace(case, quantization=quantization, compute_dtype="fp32"))
    seen = result["observations"]["training"]
    assert seen["base_unchanged"] is True
    # Two layers: q_proj is 32 x 32, v_proj 32 x 16.
    assert seen["trainable"] == {"lora": 2 * 8 * (64 + 48), "bias": 0, "head": 0, "other": 0}
    assert seen["trainable"]["lora"] == result["proof"]["trainable_parameters"]
    assert seen["update_norm"] > 0


def test_the_update_of_the_reported_norm_is_that_of_all_steps(case: Case) -> None:
    [result] = measure(case)
    workload = built(case)
    for _ in range(UNTIMED_STEPS + MEASURE.warmup + MEASURE.steps):
        workload.step(NO_PHASES)
    added = [
        module.get_delta_weight("default").double().square().sum()
        for module in workload.model.modules()
        if isinstance(module, LoraLayer)
    ]
    norm = float(torch.stack(added).detach().sum().sqrt())
    assert result["observations"]["training"]["update_norm"] == pytest.approx(norm, rel=1e-5)


def test_a_base_that_changes_while_it_is_timed_is_reported(case: Case) -> None:
    workload = built(case)
    workload.begin_timing()
    workload.step(NO_PHASES)
    assert workload.observations()["training"]["base_unchanged"] is True
    workload.model.get_input_embeddings().weight.data[5, 7] += 1e-6
    assert workload.observations()["training"]["base_unchanged"] is False


def test_full_fine_tuning_has_no_base_to_leave_alone(case: Case) -> None:
    [result] = measure(replace(case, adapter=None))
    seen = result["observations"]["training"]
    assert seen["base_unchanged"] is None
    assert seen["update_norm"] is None
    assert seen["trainable"]["other"] == result["proof"]["total_parameters"]


@pytest.mark.parametrize("checkpointing", ["none", "reentrant", "non-reentrant"])
def test_what_becomes_of_the_cache(case: Case, checkpointing: Any) -> None:
    off, on = (
        measure(replace(case, gradient_checkpointing=checkpointing, use_cache=use_cache))[0]
        for use_cache in (False, True)
    )
    without, seen = (result["observations"]["training"]["cache"] for result in (off, on))
    assert without == {"asked": False, "returned": False, "config_after": False, "warnings": []}
    assert (seen["asked"], seen["config_after"]) == (True, True)
    # transformers switches it off itself where layers are recomputed, and says so.
    assert seen["returned"] == (checkpointing == "none")
    assert len(seen["warnings"]) == (checkpointing != "none")
    assert off["observations"]["losses"] == on["observations"]["losses"]


def test_what_is_observed_beside_takes_no_bytes(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    [watched] = measure(case)
    monkeypatch.setattr(training, "CacheWatch", lambda model: None)
    monkeypatch.setattr(training, "digests", lambda tensors: {})
    monkeypatch.setattr(training.Training, "_facts", lambda workload: {})
    [bare] = measure(case)
    assert watched["memory"] == bare["memory"]


def bytes_of(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.itemsize for tensor in tensors)


def test_static_memory_is_the_parameters_and_buffers_of_the_model(case: Case) -> None:
    [result] = measure(case)
    model = built(case).model
    assert result["memory"]["static_bytes"] == bytes_of(model.parameters()) + bytes_of(model.buffers())


def test_memory_counts_from_the_third_step_on_with_the_optimizer_state_in_it(case: Case) -> None:
    [result] = measure(case)
    memory = result["memory"]
    trainable = [weight for weight in built(case).model.parameters() if weight.requires_grad]
    # AdamW: two moments of each tensor and a step counter in fp32.
    state_bytes = 2 * bytes_of(trainable) + 4 * len(trainable)
    ids_bytes = case.batch_size * case.sequence_length * 8
    resting_bytes = memory["static_bytes"] + ids_bytes + state_bytes
    phases = memory["phases"]
    assert phases["forward"]["before_bytes"] == resting_bytes
    assert phases["optimizer"]["after_bytes"] == resting_bytes
    # Between backward and optimizer there are gradients, and nothing else is left of the step.
    assert phases["backward"]["after_bytes"] == resting_bytes + bytes_of(trainable)


def test_sgd_keeps_no_state(case: Case) -> None:
    [result] = measure(replace(case, optimizer="sgd"))
    ids_bytes = case.batch_size * case.sequence_length * 8
    assert result["memory"]["phases"]["forward"]["before_bytes"] == result["memory"]["static_bytes"] + ids_bytes


@pytest.mark.parametrize("mode", ["none", "reentrant", "non-reentrant"])
def test_the_phases_of_memory_fit_together(case: Case, mode: Any) -> None:
    [result] = measure(replace(case, gradient_checkpointing=mode))
    memory = result["memory"]
    steps = [memory["phases"][name] for name in ("forward", "backward", "optimizer")]
    assert set(memory["phases"]) == {"load", "attach", "forward", "backward", "optimizer"}
    for phase in memory["phases"].values():
        assert phase["peak_bytes"] >= max(phase["before_bytes"], phase["after_bytes"])
    for earlier, later in pairwise(steps):
        assert earlier["after_bytes"] == later["before_bytes"]
    assert memory["peak_allocated_bytes"] == max(phase["peak_bytes"] for phase in steps)
    assert memory["dynamic_bytes"] == memory["peak_allocated_bytes"] - memory["static_bytes"]


def test_checkpointing_takes_less_dynamic_memory(case: Case) -> None:
    longer = replace(case, sequence_length=64)
    plain, checkpointed = (
        measure(replace(longer, gradient_checkpointing=mode))[0]["memory"]["dynamic_bytes"]
        for mode in ("none", "non-reentrant")
    )
    assert checkpointed < plain


def test_full_fine_tuning_holds_gradients_and_moments_of_every_weight(case: Case) -> None:
    [result] = measure(replace(case, adapter=None))
    static_bytes = result["memory"]["static_bytes"]
    assert result["status"] == "ok"
    assert result["proof"]["trainable_parameters"] == result["proof"]["total_parameters"]
    assert result["memory"]["dynamic_bytes"] >= 3 * static_bytes


@pytest.mark.parametrize(("model_type", "config"), [("llama", LLAMA), ("opt", {**OPT, "dropout": 0.0})])
def test_right_padding_leaves_the_loss_of_what_stands_before_it(
    case: Case, tmp_path: Path, model_type: str, config: dict[str, Any]
) -> None:
    model = write_config(tmp_path, model_type, config)
    workload = built(replace(case, model=model, padding=0.5, learning_rate=0.0))
    inputs = workload._inputs
    real = inputs["input_ids"][:, :8]
    assert inputs["attention_mask"].sum(-1).tolist() == [8, 8]
    assert (inputs["labels"][:, 8:] == -100).all()
    logits = workload.model(input_ids=real).logits[:, :-1]
    # Labels are shifted: each position predicts the next token.
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), real[:, 1:].flatten())
    assert workload.model(**inputs).loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_padding_changes_nothing_that_an_encoder_says_of_the_real_tokens(case: Case, tmp_path: Path) -> None:
    model = write_config(tmp_path, "t5", {**T5, "dropout_rate": 0.0})
    adapter = Adapter(target_modules=("q", "v"), task_type="SEQ_2_SEQ_LM")
    workload = built(replace(case, model=model, adapter=adapter, padding=0.5))
    inputs = workload._inputs
    decoded = inputs["labels"][:, :8].contiguous()
    expected = workload.model(input_ids=inputs["input_ids"][:, :8], labels=decoded).loss
    assert workload.model(**inputs).loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_loss_that_is_not_a_number_is_null_in_the_record(case: Case, environment: Environment) -> None:
    diverged = record(replace(case, optimizer="sgd", learning_rate=1e38), environment)
    assert diverged.status == "ok", diverged.error
    assert set(diverged.observations["losses"]) == {None}
    finite = record(case, environment)
    assert all(isinstance(loss, float) for loss in finite.observations["losses"])


def test_tokens_per_second_are_all_positions_over_the_median_step(case: Case, environment: Environment) -> None:
    padded = record(replace(case, padding=0.25), environment)
    assert padded.tokens_per_s == pytest.approx(2 * 16 / padded.latency["step"].median_s)


@pytest.mark.slow
def test_text_is_real_to_a_pretrained_model() -> None:
    learner = Case(
        scenario="s",
        task="train",
        model="smollm2-135m",
        weights="pretrained",
        quantization="fp32",
        data="text",
        sequence_length=32,
        measure=Measure(warmup=0, steps=2),
    )
    [result] = measure(learner)
    assert result["status"] == "ok", result["error"]
    # A model that knows nothing loses log(49152) = 10.8 nats a token, and one that is given noise loses more.
    assert all(loss < 6.0 for loss in result["observations"]["losses"])


def test_text_is_refused_to_random_weights(case: Case) -> None:
    with pytest.raises(InputError, match=r"^data: text needs weights: pretrained; .*$"):
        measure(replace(case, data="text"))


@pytest.mark.parametrize("task", ["train", "lifecycle"])
def test_what_is_measured_is_told_before_anything_is_timed(tmp_path: Path, task: Task) -> None:
    """So that a process which ends while it times leaves its bytes."""
    model = write_config(tmp_path / "model", "llama", LLAMA)
    case = Case("told", task, model, sequence_length=16, measure=Measure(warmup=1, steps=2))
    listener = Listener()
    run_job(Job((case,), "single", "cpu", repeat=0, timeout_s=60.0), listener)
    kinds = [event["event"] for event in listener.events]
    told, last = kinds.index("measured"), kinds.index("result")
    timing = [event.get("phase") for event in listener.events].index("timing")
    assert told < timing < last
    measured, result = listener.events[told], listener.events[last]
    assert measured["memory"] == result["memory"]
    assert measured["proof"] == result["proof"]
    assert (measured["latency"], result["latency"].keys() != set()) == ({}, True)
