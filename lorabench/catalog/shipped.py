"""The scenarios of the repository, by name: where each lies in it."""

from __future__ import annotations

from collections.abc import Mapping

SCENARIOS_FOLDER = "scenarios/"
_QUICK = (
    "adapter-count",
    "adapter-latency",
    "adapter-state",
    "attention",
    "batch-size",
    "bias-modes",
    "cache",
    "checkpointing",
    "checkpointing-time",
    "dropout",
    "full-fine-tuning",
    "int8",
    "int8-inference",
    "kbit-preparation",
    "lifecycle",
    "lifecycle-bias",
    "model-size",
    "optimizer",
    "padding",
    "quantization",
    "rank",
    "sequence-length",
    "target-modules",
    "task-types",
)
_LEARNING = ("alpha", "int8-preparation", "schemes")
_LARGE = (
    "adapter-count-7b",
    "adapter-latency-7b",
    "adapter-state-7b",
    "attention-7b",
    "batch-size-7b",
    "bias-modes-7b",
    "cache-7b",
    "checkpointing-7b",
    "checkpointing-time-7b",
    "dropout-7b",
    "full-fine-tuning-7b",
    "int8-7b",
    "kbit-preparation-7b",
    "lifecycle-7b",
    "lifecycle-bias-7b",
    "model-size-7b",
    "optimizer-7b",
    "padding-7b",
    "quantization-7b",
    "rank-7b",
    "sequence-length-7b",
    "target-modules-7b",
    "task-types-7b",
)
_ACCURACY = ("accuracy", "accuracy-infer")

SHIPPED: Mapping[str, str] = {
    **{name: f"{SCENARIOS_FOLDER}{name}.yaml" for name in _QUICK},
    **{name: f"{SCENARIOS_FOLDER}learning/{name}.yaml" for name in _LEARNING},
    **{name: f"{SCENARIOS_FOLDER}large/{name}.yaml" for name in _LARGE},
    # Many models and settings in few steps: made for the accuracy of predictions, and evidence for claims on bytes.
    **{name: f"tests/gpu/{name}.yaml" for name in _ACCURACY},
}
"""Paths from the repository's root; records name their scenario and not its file."""

PRETRAINED = frozenset(_LEARNING)
"""Those of a model with pretrained weights, which must be at hand to run or to predict them: text needs its tokenizer,
outliers its weights."""
