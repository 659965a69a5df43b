"""Shapes are checked against what transformers builds from the same configuration, and against published ratios."""

from __future__ import annotations

import pytest
from torch import nn
from trainings import training
from transformers.pytorch_utils import Conv1D

from lorabench.analysis.claims.shapes import adapter_parameters, shapes, shapes_of, task_head_parameters
from lorabench.case import Adapter, Case
from lorabench.catalog import PRESETS
from lorabench.model.build import build_skeleton
from lorabench.model.expectation import expect

LANGUAGE_MODELS = [name for name in PRESETS if name != "bert-base"]


def skeleton(model: str, task_type: str = "CAUSAL_LM"):
    targets = PRESETS[model].family.query_value
    task_type = "SEQ_2_SEQ_LM" if (model, task_type) == ("t5-small", "CAUSAL_LM") else task_type
    case = Case("shapes", "train", model, adapter=Adapter(rank=3, target_modules=targets, task_type=task_type))
    return case, build_skeleton(case)


@pytest.mark.parametrize("model", LANGUAGE_MODELS)
def test_parameters_and_biases_are_those_of_the_built_model(model):
    found, (_, built) = shapes(model), skeleton(model)
    assert found.parameters == sum(weight.numel() for weight in built.parameters())
    assert found.biases == sum(weight.numel() for name, weight in built.named_parameters() if name.endswith(".bias"))


@pytest.mark.parametrize("model", LANGUAGE_MODELS)
def test_linear_layers_are_those_of_the_built_model(model):
    _, built = skeleton(model)
    linear = {
        name: module
        for name, module in built.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not built.get_output_embeddings()
    }
    counted = shapes(model).linear
    assert sum(layer.copies for layer in counted) == len(linear)
    assert {layer.name for layer in counted} == {name.rpartition(".")[2] for name in linear}
    assert sum(layer.weights for layer in counted) == sum(module.weight.numel() for module in linear.values())


@pytest.mark.parametrize(
    ("model", "task_type"),
    [(name, "CAUSAL_LM") for name in LANGUAGE_MODELS]
    + [("llama-tiny", "SEQ_CLS"), ("llama-tiny", "TOKEN_CLS"), ("gpt2", "SEQ_CLS"), ("gpt2", "TOKEN_CLS")]
    + [("opt-tiny", "SEQ_CLS"), ("bert-base", "SEQ_CLS"), ("bert-base", "TOKEN_CLS"), ("t5-small", "SEQ_CLS")]
    + [("llama-tiny", "FEATURE_EXTRACTION")],
)
def test_trained_parameters_are_those_that_the_worker_expects(model, task_type):
    case, built = skeleton(model, task_type)
    layers = shapes(model).targets(PRESETS[model].family.query_value)
    assert layers is not None
    total = adapter_parameters(layers, 3) + task_head_parameters(shapes(model), model, task_type)
    assert total == expect(built, case).trainable_parameters


def test_published_adapter_sizes():
    seven = shapes("llama-2-7b")
    assert adapter_parameters(seven.targets(["q_proj", "v_proj"]), 8) == 4_194_304
    assert adapter_parameters(seven.targets(["q_proj", "v_proj"]), 64) == 33_554_432
    assert adapter_parameters(seven.targets("all-linear"), 8) == 19_988_480
    assert adapter_parameters(shapes("llama-2-13b").targets(["q_proj", "v_proj"]), 8) == 6_553_600
    assert seven.parameters + 4_194_304 == 6_742_609_920


@pytest.mark.parametrize(
    ("model", "ratio", "prepared"),
    [
        ("llama-2-7b", 0.519, None),
        ("llama-3-8b", 0.565, 0.696),
        ("llama-3.2-1b", 0.606, 0.819),
        ("qwen2.5-0.5b", 0.638, None),
        ("opt-125m", 0.661, 0.983),
    ],
)
def test_published_ratios_of_int8_to_fp16_weights(model, ratio, prepared):
    found = shapes(model)
    half = found.weight_bytes("fp16")
    assert half == 2 * found.parameters
    # Published without the scales of the outputs, which the bytes here have, and cut after three digits.
    scales = sum(4 * layer.copies * layer.outgoing for layer in found.linear)
    assert (found.weight_bytes("int8") - scales) / half == pytest.approx(ratio, abs=0.001)
    assert found.weight_bytes("int8") / half == pytest.approx(ratio, abs=0.002)
    if prepared is not None:
        assert found.weight_bytes("int8", prepared=True) / half == pytest.approx(prepared, abs=0.0015)


def test_nf4_takes_half_a_byte_and_a_sixteenth_of_a_weight():
    found = shapes("llama-2-7b")
    bits = 8 * found.quantized_bytes("nf4") / found.quantized
    assert bits == pytest.approx(4 + 32 / 64, abs=1e-4)
    # 8 bits for each 64 weights, and 32 more for each 256 of those (Dettmers et al. 2023, section 3).
    doubled = 8 * found.quantized_bytes("nf4", double=True) / found.quantized
    assert doubled == pytest.approx(4 + 8 / 64 + 32 / (64 * 256), abs=1e-3)


def test_targets_that_are_no_list_of_linear_layers_are_not_told():
    found = shapes("llama-tiny")
    assert found.targets(r".*q_proj") is None
    assert found.targets(["q_proj", "lm_head"]) is None
    assert found.targets("all-linear") == found.linear


def test_a_model_that_is_no_preset_or_has_changed_since_has_no_shapes(make_record):
    assert shapes_of(training(make_record)) == shapes("llama-tiny")
    assert shapes_of(training(make_record, architecture=PRESETS["llama-tiny"].digest)) is not None
    assert shapes_of(training(make_record, architecture="0123456789ab")) is None
    assert shapes_of(make_record(case={"model": "someone/some-model"})) is None
    token = Adapter(task_type="TOKEN_CLS", target_modules=("q", "v"))
    assert shapes_of(make_record(case={"model": "t5-small", "adapter": token})) is None
