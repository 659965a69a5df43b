"""What the catalogue says of this machine's GPU, after which predictions are made for it, is what the GPU says."""

from __future__ import annotations

import pytest
import torch
from machine import in_own_process, this_card

from lorabench.device.allocator import MIB
from lorabench.environment import resolve_device

pytestmark = pytest.mark.gpu

DRIVERS_DIFFER_BY = 200 * MIB


def ask_cuda() -> tuple[tuple[int, int], int, int]:
    properties = torch.cuda.get_device_properties(0)
    _, total_bytes = torch.cuda.mem_get_info()
    return (properties.major, properties.minor), properties.multi_processor_count, total_bytes


def test_the_catalogue_has_the_card_as_it_is() -> None:
    card = this_card()
    capability, multiprocessors, cuda_bytes = in_own_process(ask_cuda)
    assert card.total_bytes == resolve_device("cuda").device.total_bytes
    assert card.compute_capability == capability
    assert card.multiprocessors == multiprocessors
    # The catalogue has the lowest that was found.
    assert 0 <= cuda_bytes - card.cuda_bytes <= DRIVERS_DIFFER_BY
