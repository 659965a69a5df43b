"""The fake device against what an H100 measured, and what it refuses to predict."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import peft
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim import optimizer as torch_optimizer
from transformers import AutoModelForCausalLM, LlamaConfig, masking_utils, modeling_utils
from transformers.utils import import_utils

from lorabench.device.allocator import MIB
from lorabench.device.fake import FakeDevice
from lorabench.device.protocol import Device
from lorabench.errors import DeviceError

LLAMA_1B = LlamaConfig(
    vocab_size=128256,
    hidden_size=2048,
    intermediate_size=8192,
    num_hidden_layers=16,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=64,
    tie_word_embeddings=True,
)
LLAMA_2_7B = LlamaConfig(
    vocab_size=32000,
    hidden_size=4096,
    intermediate_size=11008,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=32,
)


BlocksAskedBy = Callable[[Callable[[], object]], list[int]]


@dataclass(frozen=True)
class Bytes:
    static: int
    peak: int
    reserved: int


def predict(config: LlamaConfig, batch: int, length: int, checkpointing: str) -> Bytes:
    """Plain transformers and PEFT: static bytes, and the peaks of the third reference step."""
    device = FakeDevice()
    with device.session(), device.counting():
        base = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa")
        lora = peft.LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        model = peft.get_peft_model(base, lora).train()
        if checkpointing != "none":
            base.gradient_checkpointing_enable({"use_reentrant": checkpointing == "reentrant"})
            base.enable_input_require_grads()
        device.settle()
        static = device.allocated_bytes()
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
        ids = torch.randint(0, config.vocab_size, (batch, length))
        for _ in range(3):
            device.reset_peak()
            out = model(input_ids=ids, labels=ids, use_cache=False)
            out.loss.backward()
            del out
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return Bytes(static, device.peak_allocated_bytes(), device.peak_reserved_bytes())


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("config", "batch", "length", "checkpointing", "static_mib", "peak_mib"),
    [
        pytest.param(LLAMA_1B, 4, 512, "none", 2361.4, 8825.3, id="1b-none"),
        pytest.param(LLAMA_1B, 4, 512, "non-reentrant", 2361.4, 6084.0, id="1b-non-reentrant"),
        pytest.param(LLAMA_2_7B, 1, 512, "none", 12868.5, 15755.4, id="7b-none", marks=pytest.mark.slow),
        pytest.param(
            LLAMA_2_7B, 1, 512, "non-reentrant", 12868.5, 13320.3, id="7b-non-reentrant", marks=pytest.mark.slow
        ),
    ],
)
def test_prediction_is_what_an_h100_measured(
    config: LlamaConfig, batch: int, length: int, checkpointing: str, static_mib: float, peak_mib: float
) -> None:
    predicted = predict(config, batch, length, checkpointing)
    # Measured values are given to a tenth of a MiB.
    assert round(predicted.static / MIB, 1) == static_mib
    assert round(predicted.peak / MIB, 1) == peak_mib
    assert predicted.reserved >= predicted.peak


@pytest.fixture
def fake() -> Iterator[FakeDevice]:
    device = FakeDevice()
    with device.session():
        yield device


def test_it_is_a_device_without_values_or_time() -> None:
    device: Device = FakeDevice()
    assert (device.type, device.name, device.computes) == ("fake", "NVIDIA H100 80GB HBM3", False)
    assert device.torch_device == torch.device("cpu")
    assert device.device_used_bytes() is None
    with pytest.raises(RuntimeError, match="no clock"):
        device.mark()


def test_bytes_are_those_of_the_allocators_blocks(fake: FakeDevice) -> None:
    held = torch.empty(501 * MIB, dtype=torch.uint8)
    assert fake.allocated_bytes() == 502 * MIB
    gone = torch.empty(1)
    del gone
    assert fake.allocated_bytes() == 502 * MIB
    assert fake.peak_allocated_bytes() == 502 * MIB + 512
    assert fake.peak_reserved_bytes() == 504 * MIB
    fake.settle()
    fake.reset_peak()
    assert fake.peak_reserved_bytes() == 502 * MIB
    del held
    fake.settle()
    assert fake.allocated_bytes() == 0


def test_each_thread_of_cuda_has_a_cublas_workspace(fake: FakeDevice) -> None:
    weight = torch.empty(16, 16, requires_grad=True)
    before = fake.allocated_bytes()
    product = weight @ weight
    assert fake.allocated_bytes() - before == 32 * MIB + 1024
    (weight @ weight).detach()
    assert fake.allocated_bytes() - before == 32 * MIB + 1024
    loss = product.sum()
    loss.backward()
    assert fake.allocated_bytes() - before == 64 * MIB + 1024 + 512 + 1024, "product, loss and gradient"


def test_workspaces_can_be_dropped_and_come_back(fake: FakeDevice) -> None:
    weight = torch.empty(16, 16, requires_grad=True)
    before = fake.allocated_bytes()
    (weight @ weight).sum().backward()
    weight.grad = None
    assert fake.allocated_bytes() - before == 2 * 32 * MIB
    fake.drop_workspaces()
    assert fake.allocated_bytes() == before
    fake.drop_workspaces()
    (weight @ weight).detach()
    assert fake.allocated_bytes() - before == 32 * MIB


def test_without_a_session_there_are_no_workspaces_to_drop() -> None:
    FakeDevice().drop_workspaces()


def test_a_session_starts_with_an_empty_card() -> None:
    device = FakeDevice()
    with device.session():
        held = torch.empty(MIB)
        assert device.allocated_bytes() == 4 * MIB
    with device.session():
        assert device.allocated_bytes() == 0
        del held
        assert device.allocated_bytes() == 0


def test_the_optimizer_steps_all_parameters_at_once_as_on_cuda(fake: FakeDevice) -> None:
    parameters = [nn.Parameter(torch.empty(1024)) for _ in range(4)]
    optimizer = torch.optim.AdamW(parameters)
    for parameter in parameters:
        parameter.grad = torch.empty_like(parameter)
    before = fake.allocated_bytes()
    fake.reset_peak()
    optimizer.step()
    # Two moments each stay, and the step counters lie on the host; at the highest the root of every second moment
    # lives at once.
    assert fake.allocated_bytes() - before == 4 * 2 * 4096
    assert fake.peak_allocated_bytes() - before == 4 * 3 * 4096


def test_modules_can_be_converted(fake: FakeDevice) -> None:
    layer = nn.Linear(64, 64, bias=False).to(fake.torch_device, torch.bfloat16)
    assert layer.weight.dtype == torch.bfloat16
    assert layer.weight.requires_grad
    assert fake.allocated_bytes() == 64 * 64 * 2


def test_grouped_queries_keep_their_keys_as_they_are(fake: FakeDevice) -> None:
    query = torch.empty(1, 32, 128, 64, dtype=torch.bfloat16)
    key, value = (torch.empty(1, 8, 128, 64, dtype=torch.bfloat16) for _ in range(2))
    before = fake.allocated_bytes()
    out = functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    assert out.shape == query.shape
    # The output alone: nothing expands keys and values, and without a gradient the row sums are let go.
    assert fake.allocated_bytes() - before == out.numel() * 2


def test_an_operator_that_was_not_audited_is_refused_by_name(fake: FakeDevice) -> None:
    with pytest.raises(DeviceError, match=r"aten\.sort\.default was not audited"):
        torch.empty(8).sort()


def test_reading_a_value_is_refused(fake: FakeDevice) -> None:
    with pytest.raises(DeviceError, match="hold none"):
        bool((torch.empty(8) > 0).sum() > 0)


def test_a_number_drawn_to_leave_a_layer_out_leaves_none_out(fake: FakeDevice) -> None:
    # As OPT does before each layer, up to transformers 5.22. The number lies on the host.
    before = fake.allocated_bytes()
    drawn = torch.rand([])
    assert fake.allocated_bytes() == before
    assert not bool(drawn < 0.0)
    assert not bool(drawn < 0.999)
    with pytest.raises(DeviceError, match="not audited"):
        torch.rand(8)


def test_biases_are_added_by_cublaslt_with_a_workspace_of_its_own(fake: FakeDevice) -> None:
    weight, bias = torch.empty(16, 16), torch.empty(16)
    before = fake.allocated_bytes()
    sums = functional.linear(weight, weight, bias)
    assert fake.allocated_bytes() - before == 32 * MIB + MIB + 1024
    del sums


def test_dropout_keeps_a_mask_of_one_byte_an_element(fake: FakeDevice) -> None:
    activations = torch.empty(1024, 1024, dtype=torch.bfloat16, requires_grad=True)
    before = fake.allocated_bytes()
    dropped = functional.dropout(activations, 0.1)
    assert fake.allocated_bytes() - before == (2 + 1) * MIB
    del dropped


def test_a_product_comes_before_the_workspaces_that_it_needs(fake: FakeDevice, blocks_asked_by: BlocksAskedBy) -> None:
    # As a memory snapshot of an H100 shows it: the result, cuBLAS's workspace, cuBLASLt's.
    weight, bias = torch.empty(16, 16), torch.empty(16)
    assert blocks_asked_by(lambda: functional.linear(weight, weight, bias)) == [1024, 32 * MIB, MIB]


def test_dropout_makes_its_mask_first(fake: FakeDevice, blocks_asked_by: BlocksAskedBy) -> None:
    activations = torch.empty(1024, dtype=torch.bfloat16)
    assert blocks_asked_by(lambda: functional.dropout(activations, 0.1)) == [1024, 2048]


def test_fused_attention_draws_its_seed_first(fake: FakeDevice, blocks_asked_by: BlocksAskedBy) -> None:
    query = torch.empty(1, 4, 128, 64, dtype=torch.bfloat16, requires_grad=True)
    asked = blocks_asked_by(lambda: functional.scaled_dot_product_attention(query, query, query, is_causal=True))
    assert asked == [8, 8, 4 * 128 * 64 * 2, 4 * 128 * 4, 256], "seed, offset, output, row sums, cuDNN's workspace"


@pytest.mark.parametrize(("dtype", "copies"), [(torch.float16, 0), (torch.bfloat16, 1)])
def test_a_softmax_widens_fp16_in_its_kernel_and_copies_bf16(
    fake: FakeDevice, blocks_asked_by: BlocksAskedBy, dtype: torch.dtype, copies: int
) -> None:
    scores = torch.empty(64, 64, dtype=dtype, requires_grad=True)
    asked = blocks_asked_by(lambda: functional.softmax(scores, dim=-1, dtype=torch.float32))
    assert asked == (1 + copies) * [64 * 64 * 4]
    weights = functional.softmax(scores, dim=-1, dtype=torch.float32)
    assert weights.dtype == torch.float32
    weights.sum().backward()
    assert scores.grad is not None
    assert scores.grad.dtype == dtype


def test_gradients_of_a_tensor_used_twice_are_added_in_place(fake: FakeDevice, blocks_asked_by: BlocksAskedBy) -> None:
    weight = torch.empty(256, 256, requires_grad=True)
    twice = weight * 2
    loss = (twice.exp() + twice.sin()).sum()
    gradient = 256 * 256 * 4
    # Of the sine: its cosine and that times the sum's gradient; of the exponential: its product; of the doubling: one.
    asked = blocks_asked_by(loss.backward)
    assert asked.count(gradient) == 4


def test_a_gradient_that_is_no_tensor_of_its_own_is_not_added_to(
    fake: FakeDevice, blocks_asked_by: BlocksAskedBy
) -> None:
    weight = torch.empty(256, 256, requires_grad=True)
    twice = weight * 2
    loss = (twice + twice.exp()).sum()
    # One number, expanded, is the gradient of both terms: what the exponential adds to it makes a tensor of its own.
    asked = blocks_asked_by(loss.backward)
    assert asked.count(256 * 256 * 4) == 3, "the exponential's, the sum, the doubling's"


def test_layer_norm_keeps_its_rows_statistics_in_fp32(fake: FakeDevice) -> None:
    activations = torch.empty(1024, 512, dtype=torch.bfloat16, requires_grad=True)
    before = fake.allocated_bytes()
    normed = functional.layer_norm(activations, (512,))
    assert fake.allocated_bytes() - before == MIB + 2 * 4096
    del normed


def test_gradients_of_many_embeddings_are_summed_in_fp32(fake: FakeDevice) -> None:
    table = torch.empty(512, 256, dtype=torch.bfloat16, requires_grad=True)
    rows = {}
    for count in (3072, 3073):
        found = functional.embedding(torch.empty(count, dtype=torch.int64), table)
        gradient = torch.empty_like(found)
        before = fake.allocated_bytes()
        fake.reset_peak()
        found.backward(gradient)
        rows[count] = fake.peak_allocated_bytes() - before
        table.grad = None
        del found, gradient
    assert rows[3072] == 512 * 256 * 2
    assert rows[3073] > 3073 * 256 * 4


def test_fp32_with_grouped_queries_has_no_fused_kernel(fake: FakeDevice) -> None:
    query, key = torch.empty(1, 4, 128, 64), torch.empty(1, 2, 128, 64)
    fake.reset_peak()
    before = fake.allocated_bytes()
    functional.scaled_dot_product_attention(query, key, key, is_causal=True, enable_gqa=True)
    assert fake.peak_allocated_bytes() - before > 2 * 4 * 128 * 128 * 4, "scores and their softmax"


def test_a_real_model_is_refused(fake: FakeDevice) -> None:
    with pytest.raises(DeviceError, match="inside of the session"):
        torch.utils.swap_tensors(object(), object())


def test_replacements_last_as_long_as_the_session() -> None:
    places = (
        (import_utils, "is_fake_tensor"),
        (masking_utils, "find_packed_sequence_indices"),
        (functional, "scaled_dot_product_attention"),
        (torch_optimizer, "_get_foreach_kernels_supported_devices"),
        (torch_optimizer, "_foreach_supported_types"),
        (torch.utils, "swap_tensors"),
        (torch.autocast, "__enter__"),
        (functional, "dropout"),
        (modeling_utils, "caching_allocator_warmup"),
    )
    originals = [getattr(owner, name) for owner, name in places]
    try:
        with FakeDevice().session():
            for (owner, name), original in zip(places, originals, strict=True):
                assert getattr(owner, name) is not original
            assert not import_utils.is_tracing(torch.empty(1))
            raise KeyError
    except KeyError:
        pass
    for (owner, name), original in zip(places, originals, strict=True):
        assert getattr(owner, name) is original
