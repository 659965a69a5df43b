from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import BertConfig, LlamaConfig, T5Config

from lorabench.case import Adapter, Case
from lorabench.device.fake import FakeDevice
from lorabench.workload import inputs
from lorabench.workload.inputs import IGNORED_LABEL, attention_mask, token_ids, training_inputs

CPU = torch.device("cpu")
LLAMA = LlamaConfig(vocab_size=64)
BERT = BertConfig(vocab_size=64, num_labels=3)
T5 = T5Config(vocab_size=64, num_labels=3)
CASE = Case(scenario="s", task="train", model="llama-tiny", batch_size=3, sequence_length=10)


def with_task(task_type: Any, **settings: Any) -> Case:
    return replace(CASE, adapter=Adapter(task_type=task_type), **settings)


def test_ids_depend_on_the_seed_alone() -> None:
    ids = token_ids(CASE, LLAMA, CPU, "right")
    assert torch.equal(ids, token_ids(replace(CASE, quantization="int8"), LLAMA, CPU, "left"))
    assert not torch.equal(ids, token_ids(replace(CASE, seed=1), LLAMA, CPU, "right"))
    assert ids.shape == (3, 10)
    assert 0 <= ids.min() <= ids.max() < 64


@pytest.mark.parametrize("data", ["random", "text"])
def test_ids_take_the_same_memory_of_a_predicted_card(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of text come from the host."""
    monkeypatch.setattr(inputs, "text_ids", lambda case: torch.tensor([[7] * 10] * 3))
    device = FakeDevice()
    with device.session():
        ids = token_ids(replace(CASE, weights="pretrained", data=data), LLAMA, device.torch_device, "right")
        assert ids.shape == (3, 10)
        assert device.allocated_bytes() == 512


@pytest.mark.parametrize(("padding", "padded"), [(0.05, 0), (0.1, 1), (0.25, 2), (0.5, 5), (0.999, 9), (1.0, 9)])
def test_the_mask_leaves_out_the_share_that_is_padding_and_keeps_a_token(padding: float, padded: int) -> None:
    case = replace(CASE, padding=padding)
    right, left = (attention_mask(case, CPU, side) for side in ("right", "left"))
    if padded == 0:
        assert right is None
        assert left is None
        return
    assert right is not None
    assert left is not None
    assert right.tolist() == [[1] * (10 - padded) + [0] * padded] * 3
    assert left.tolist() == [[0] * padded + [1] * (10 - padded)] * 3


def test_without_padding_a_language_model_is_given_ids_and_nothing_else() -> None:
    inputs = training_inputs(CASE, LLAMA, CPU)
    assert inputs.keys() == {"input_ids", "labels"}
    assert inputs["labels"] is inputs["input_ids"]


def test_padding_is_left_out_of_the_loss() -> None:
    inputs = training_inputs(replace(CASE, padding=0.3), LLAMA, CPU)
    assert (inputs["labels"][:, 7:] == IGNORED_LABEL).all()
    assert torch.equal(inputs["labels"][:, :7], inputs["input_ids"][:, :7])


def test_classes_are_those_that_the_model_has() -> None:
    whole = training_inputs(with_task("SEQ_CLS", padding=0.3), BERT, CPU)
    assert whole["labels"].shape == (3,)
    assert whole["labels"].max() < 3
    each = training_inputs(with_task("TOKEN_CLS", padding=0.3), BERT, CPU)
    assert each["labels"].shape == (3, 10)
    assert each["labels"].max() < 3
    assert (each["labels"][:, 7:] == IGNORED_LABEL).all()
    assert "labels" not in training_inputs(with_task("FEATURE_EXTRACTION"), BERT, CPU)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("side", "end"), [("left", 9), ("right", 6)])
def test_an_encoder_decoder_classifies_at_the_one_end_of_sequence(side: Any, end: int, seed: int) -> None:
    case = with_task("SEQ_CLS", padding=0.3, batch_size=40, seed=seed)
    ids = token_ids(case, T5, CPU, side)
    assert (ids == T5.eos_token_id).nonzero().tolist() == [[row, end] for row in range(40)]
    assert ids.max() < 64


def test_a_bare_encoder_decoder_decodes_what_it_encodes() -> None:
    inputs = training_inputs(with_task("FEATURE_EXTRACTION"), T5, CPU)
    assert torch.equal(inputs["decoder_input_ids"], inputs["input_ids"])
    assert "decoder_input_ids" not in training_inputs(with_task("SEQ_2_SEQ_LM"), T5, CPU)
    assert "decoder_input_ids" not in training_inputs(with_task("FEATURE_EXTRACTION"), BERT, CPU)
