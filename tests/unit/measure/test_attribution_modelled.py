"""What the modelled allocator says of storages while a step is followed."""

from __future__ import annotations

import torch

from lorabench.device.allocator import MIB
from lorabench.device.fake import FakeDevice
from lorabench.measure.attribution.blocks import ModelledBlocks, blocks_of


def test_blocks_are_those_of_the_model_remainders_included() -> None:
    device = FakeDevice()
    with device.session():
        blocks = blocks_of(device)
        assert isinstance(blocks, ModelledBlocks)
        odd = torch.empty(700, dtype=torch.uint8)
        # 502 MiB come from a segment that is a multiple of 2 MiB: the odd one's rest is not split off.
        large = torch.empty(501 * MIB, dtype=torch.uint8)
        assert blocks.held_bytes(odd.untyped_storage()) == 1024
        assert blocks.held_bytes(large[10:].untyped_storage()) == 502 * MIB
        on_host = torch.tensor(1.0)
        assert blocks.held_bytes(on_host.untyped_storage()) is None
        assert blocks.workspace_bytes() == 0


def test_a_products_workspace_is_what_no_storage_claims() -> None:
    device = FakeDevice()
    with device.session():
        blocks = blocks_of(device)
        x = torch.empty(64, 64, dtype=torch.bfloat16)
        y = x @ x
        assert blocks.workspace_bytes() == 32 * MIB
        del x, y
        assert blocks.workspace_bytes() == 32 * MIB


def test_an_operators_temporaries_are_told_from_what_it_leaves() -> None:
    device = FakeDevice()
    with device.session():
        blocks = blocks_of(device)
        grad = torch.empty(4, 1024, 1024, dtype=torch.float32)
        output = torch.empty_like(grad)
        blocks.before_operator()
        result = torch.ops.aten._softmax_backward_data(grad, output, -1, torch.float32)
        told = blocks.after_operator()
        assert told is not None
        allocated_bytes, temporary_bytes = told
        assert allocated_bytes == device.allocated_bytes() == 3 * 16 * MIB
        # grad * output, as the kernel makes it before it runs (SoftMax.cu).
        assert temporary_bytes == 16 * MIB
        del result
