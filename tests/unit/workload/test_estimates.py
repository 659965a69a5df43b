"""The estimates that people use, against numbers worked out by hand from a small Llama's configuration."""

from __future__ import annotations

from typing import Any

import pytest

from lorabench.case import Adapter, Case
from lorabench.workload.estimates import accelerate_estimate, arithmetic, estimates, memory_tracker_peak

WIDTH, LAYERS, HEADS, INNER, VOCABULARY = 256, 4, 8, 688, 2048
KEY_VALUE_WIDTH = WIDTH // 2
ATTENTION = 2 * WIDTH * WIDTH + 2 * WIDTH * KEY_VALUE_WIDTH
PARAMETERS = 2 * VOCABULARY * WIDTH + LAYERS * (ATTENTION + 3 * WIDTH * INNER + 2 * WIDTH) + WIDTH
TRAINED = LAYERS * 8 * (2 * WIDTH + WIDTH + KEY_VALUE_WIDTH)
# The rotary embedding's 16 frequencies, twice: a buffer and its original.
BUFFERS = 2 * (WIDTH // HEADS // 2)


def case(**settings: Any) -> Case:
    return Case(**{"scenario": "s", "task": "train", "model": "llama-tiny", "sequence_length": 64, **settings})


def test_accelerate_counts_weights_alone() -> None:
    fp32 = accelerate_estimate(case(quantization="fp32"))
    assert 4 * PARAMETERS <= fp32.total_bytes <= 4 * (PARAMETERS + BUFFERS)
    assert fp32.training_bytes == 4 * fp32.total_bytes
    bf16 = accelerate_estimate(case())
    assert (bf16.total_bytes, bf16.training_bytes) == (fp32.total_bytes // 2, 2 * fp32.total_bytes)
    nf4 = accelerate_estimate(case(quantization="nf4"))
    assert (nf4.total_bytes, nf4.training_bytes) == (fp32.total_bytes // 8, None)


@pytest.mark.parametrize(
    ("settings", "per_position"),
    [
        ({}, 34 * WIDTH),
        ({"attention": "eager"}, 34 * WIDTH + 5 * HEADS * 64),
        ({"gradient_checkpointing": "reentrant"}, 2 * WIDTH),
        ({"quantization": "fp32"}, 2 * 34 * WIDTH),
    ],
)
def test_the_usual_arithmetic(settings: dict[str, Any], per_position: int) -> None:
    found = arithmetic(case(batch_size=3, **settings))
    assert found.activations_bytes == LAYERS * 3 * 64 * per_position
    weight_bytes = 4 if settings.get("quantization") == "fp32" else 2
    assert found.weights_bytes == weight_bytes * PARAMETERS + 4 * TRAINED
    assert found.trained_bytes == 12 * TRAINED
    assert found.peak_bytes == found.weights_bytes + found.trained_bytes + found.activations_bytes


def test_the_arithmetic_without_an_adapter_and_without_training() -> None:
    full = arithmetic(case(adapter=None, optimizer="sgd"))
    assert (full.weights_bytes, full.trained_bytes) == (2 * PARAMETERS, 4 * PARAMETERS)
    assert arithmetic(case(task="infer")).peak_bytes == 2 * PARAMETERS + 4 * TRAINED


@pytest.mark.parametrize("state", ["base", "merged"])
def test_without_an_adapter_in_its_layers_inference_holds_the_weights_alone(state: str) -> None:
    assert arithmetic(case(task="infer", adapter_state=state)).peak_bytes == 2 * PARAMETERS


def test_each_estimate_is_a_number_or_says_why_not() -> None:
    dense, int8, infer = (estimates(case(**one)) for one in ({}, {"quantization": "int8"}, {"task": "infer"}))
    assert list(dense) == ["accelerate_weights", "accelerate_training", "memory_tracker", "arithmetic"]
    assert dense["accelerate_weights"] == {"peak_bytes": accelerate_estimate(case()).total_bytes}
    assert dense["accelerate_training"] == {"peak_bytes": accelerate_estimate(case()).training_bytes}
    assert dense["memory_tracker"] == {"peak_bytes": memory_tracker_peak(case())}
    usual = arithmetic(case())
    assert dense["arithmetic"] == {
        "peak_bytes": usual.weights_bytes + usual.trained_bytes + usual.activations_bytes,
        **{name: getattr(usual, name) for name in ("weights_bytes", "trained_bytes", "activations_bytes")},
    }
    assert int8["accelerate_training"] == {"absent": "no number for training in int8"}
    assert infer["accelerate_training"] == {"absent": "for training only"}
    assert infer["memory_tracker"] == {"absent": "for a training step only"}


def test_a_method_that_fails_is_absent_with_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> int:
        raise RuntimeError("no such\n operator")

    monkeypatch.setattr("lorabench.workload.estimates.memory_tracker_peak", fail)
    found = estimates(case())
    assert found["memory_tracker"] == {"absent": "RuntimeError: no such operator"}
    assert "peak_bytes" in found["arithmetic"]


@pytest.mark.parametrize("adapter", [Adapter(), None])
def test_the_tracker_runs_with_frozen_parameters_and_without(adapter: Adapter | None) -> None:
    peak = memory_tracker_peak(case(adapter=adapter))
    trained = 4 * TRAINED if adapter else 2 * PARAMETERS
    # Weights, AdamW's two moments and the logits in fp32 are there at least, and no more than thrice of all.
    least = 2 * PARAMETERS + 2 * trained + 4 * 64 * VOCABULARY
    assert least < peak < 3 * least


def test_the_tracker_grows_with_the_batch() -> None:
    one, two, three = (memory_tracker_peak(case(batch_size=batch)) for batch in (1, 2, 3))
    assert three - two == pytest.approx(two - one, rel=0.01)
    assert two > one


def test_the_tracker_is_for_training() -> None:
    with pytest.raises(ValueError, match="training step"):
        memory_tracker_peak(case(task="infer"))
