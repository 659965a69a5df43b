"""Masks that a model makes where nothing is padded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, masking_utils

from lorabench.case import Case
from lorabench.device.cpu import CpuDevice
from lorabench.device.fake import FakeDevice
from lorabench.device.padding import is_padded, unpadded
from lorabench.workload.inputs import known_padding

BATCH, LENGTH, HEADS = 2, 512, 4
CONFIG = LlamaConfig(
    vocab_size=512, hidden_size=256, intermediate_size=512, num_hidden_layers=1, num_attention_heads=HEADS
)


@pytest.fixture
def fake() -> Iterator[FakeDevice]:
    device = FakeDevice()
    with device.session():
        yield device


def forward_bytes(device: FakeDevice, with_ones: bool) -> int:
    """Highest above the model and its inputs. As OPT does in transformers 5.17, ones are passed in place of no mask."""
    model = LlamaForCausalLM._from_config(CONFIG, dtype=torch.bfloat16, attn_implementation="sdpa")
    ids = torch.zeros(BATCH, LENGTH, dtype=torch.int64)
    mask = torch.ones(BATCH, LENGTH) if with_ones else None
    model(input_ids=ids, attention_mask=mask, use_cache=False)
    device.reset_peak()
    before = device.allocated_bytes()
    model(input_ids=ids, attention_mask=mask, use_cache=False)
    return device.peak_allocated_bytes() - before


def test_ones_are_a_mask_until_it_is_told_that_they_are_none(fake: FakeDevice) -> None:
    told, nothing = {}, forward_bytes(fake, with_ones=False)
    for name, context in {"unknown": nullcontext(), "unpadded": unpadded()}.items():
        with context:
            told[name] = forward_bytes(fake, with_ones=True) - nothing
    # What is read of the mask is converted to booleans; the mask for each position and key is not made.
    assert told["unpadded"] <= BATCH * LENGTH
    assert told["unknown"] >= BATCH * LENGTH * LENGTH


def test_transformers_check_answers_as_on_a_real_mask_of_ones() -> None:
    arguments = (LENGTH, LENGTH, 0, 0)
    for ones in (torch.ones(BATCH, LENGTH, dtype=torch.bool), None):
        real = masking_utils._ignore_causal_mask_sdpa(ones, *arguments)
        assert real
        with FakeDevice().session(), unpadded():
            fake_ones = None if ones is None else torch.ones(BATCH, LENGTH, dtype=torch.bool)
            assert masking_utils._ignore_causal_mask_sdpa(fake_ones, *arguments) == real
            assert masking_utils._ignore_bidirectional_mask_sdpa(fake_ones, LENGTH)


@pytest.mark.parametrize(("padding", "expected"), [(0.0, False), (0.5, True)])
def test_a_workload_tells_the_fake_device_what_its_case_says(padding: float, expected: bool) -> None:
    case = Case(scenario="s", task="train", model="llama-tiny", padding=padding)
    with known_padding(case, FakeDevice()):
        assert is_padded() is expected
    assert is_padded()
    with known_padding(case, CpuDevice()):
        assert is_padded(), "a device that computes reads the mask itself"
