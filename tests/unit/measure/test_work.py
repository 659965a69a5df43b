"""Operations and bytes against formulas that are worked out here."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from lorabench.measure.work import CountedPhases, WorkCounter

ROWS, INGOING, OUTGOING = 8, 16, 32


def counted(work) -> WorkCounter:
    with WorkCounter() as counter:
        work()
    return counter


def test_a_product_takes_two_operations_for_each_multiply_add_and_moves_its_three_matrices():
    left, right = torch.ones(ROWS, INGOING), torch.ones(INGOING, OUTGOING)
    work = counted(lambda: left @ right)
    assert work.flops == {"fp32": 2 * ROWS * INGOING * OUTGOING}
    assert work.moved_bytes == 4 * (ROWS * INGOING + INGOING * OUTGOING + ROWS * OUTGOING)


def test_backward_takes_twice_the_forward_and_once_where_the_weight_is_frozen():
    for frozen, times in ((False, 2), (True, 1)):
        layer = nn.Linear(INGOING, OUTGOING, bias=False).requires_grad_(not frozen)
        out = layer(torch.ones(ROWS, INGOING, requires_grad=True))
        assert counted(lambda out=out: out.sum().backward()).flops == {"fp32": times * 2 * ROWS * INGOING * OUTGOING}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_operations_are_told_by_the_dtype_that_they_run_in(dtype):
    square = torch.ones(4, 4, dtype=dtype)
    assert counted(lambda: square @ square).flops == {{torch.float16: "fp16", torch.bfloat16: "bf16"}[dtype]: 128}


def test_attention_counts_both_of_its_products():
    query = torch.ones(1, 2, 64, 16)
    work = counted(lambda: functional.scaled_dot_product_attention(query, query, query))
    assert work.flops == {"fp32": 2 * (2 * 2 * 64 * 64 * 16)}


@pytest.mark.parametrize("kernel", ["flash", "efficient", "cudnn"])
@pytest.mark.parametrize("key_heads", [8, 2])
def test_attention_on_a_gpu_counts_each_head_of_the_queries(kernel, key_heads):
    """torch 2.11's own formula refuses grouped queries, and with it the count of a whole step."""
    query = torch.empty(2, 8, 64, 16, device="meta", dtype=torch.bfloat16)
    key = torch.empty(2, key_heads, 128, 16, device="meta", dtype=torch.bfloat16)
    attend = getattr(torch.ops.aten, f"_scaled_dot_product_{kernel}_attention")
    given = {"flash": (), "efficient": (None, True), "cudnn": (None, True)}[kernel]
    assert counted(lambda: attend(query, key, key, *given)).flops == {"bf16": 2 * (2 * 2 * 8 * 64 * 128 * 16)}


def test_attention_backward_takes_five_products():
    query, key, value = (torch.ones(1, 2, 64, 16, requires_grad=True) for _ in range(3))
    attended = functional.scaled_dot_product_attention(query, key, value)
    work = counted(lambda: torch.autograd.backward(attended, torch.ones_like(attended)))
    assert work.flops == {"fp32": 5 * (2 * 2 * 64 * 64 * 16)}


def test_composite_operators_count_where_autograd_has_not_taken_them_apart():
    with torch.inference_mode():
        left, right = torch.ones(4, 8, 16), torch.ones(16, 3)
        assert counted(lambda: torch.matmul(left, right)).flops == {"fp32": 2 * 4 * 8 * 16 * 3}


@pytest.mark.parametrize(
    ("work", "elements"),
    [
        (lambda x: x.t(), 0),
        (lambda x: x.view(-1)[3:], 0),
        (lambda x: torch.empty_like(x), 0),
        (lambda x: x + 1, 2 * 16),
        (lambda x: x.add_(1), 2 * 16),
        (lambda x: x.zero_(), 16),
        (lambda x: x.copy_(torch.empty(4, 4)), 2 * 16),
        (lambda x: x.clone(), 2 * 16),
        # A broadcast row is read once, not once for each row that it stands for.
        (lambda x: x + x[0].expand(4, 4), 16 + 4 + 16),
        (lambda x: torch.cat([x, x]), 2 * 16 + 32),
        (lambda x: torch._foreach_add_([x, x], 1), 2 * 32),
        (lambda x: torch.mm(x, x, out=torch.empty(4, 4)), 3 * 16),
    ],
)
def test_an_operator_reads_and_writes_each_tensor_once(work, elements):
    values = torch.ones(4, 4)
    assert counted(lambda: work(values)).moved_bytes == 4 * elements


def test_a_lookup_reads_the_rows_that_it_returns():
    table, ids = torch.ones(1000, 8), torch.tensor([3, 5, 7])
    assert counted(lambda: functional.embedding(ids, table)).moved_bytes == 4 * (2 * 3 * 8) + 8 * 3


class TestBitsandbytes:
    """Its operators as it registers them, on the CPU."""

    def test_int8_products_count_as_int8(self):
        pytest.importorskip("bitsandbytes")
        left = torch.ones(ROWS, INGOING, dtype=torch.int8)
        right = torch.ones(OUTGOING, INGOING, dtype=torch.int8)
        work = counted(lambda: torch.ops.bitsandbytes.int8_linear_matmul(left, right))
        assert work.flops == {"int8": 2 * ROWS * INGOING * OUTGOING}
        assert work.moved_bytes == ROWS * INGOING + OUTGOING * INGOING + 4 * ROWS * OUTGOING

    def test_outlier_columns_are_multiplied_once_more(self):
        pytest.importorskip("bitsandbytes")
        activations = torch.ones(ROWS, INGOING, dtype=torch.float16)
        quantized = torch.ones(ROWS, INGOING, dtype=torch.int8)
        weight = torch.ones(OUTGOING, INGOING, dtype=torch.int8)
        stats = (torch.ones(ROWS), torch.ones(OUTGOING))
        columns = torch.tensor([1, 2, 5])
        work = counted(
            lambda: torch.ops.bitsandbytes.int8_mixed_scaled_mm(activations, quantized, weight, *stats, columns)
        )
        assert work.flops == {"int8": 2 * ROWS * INGOING * OUTGOING, "fp16": 2 * ROWS * len(columns) * OUTGOING}

    def test_nf4_counts_in_the_dtype_of_the_activations(self):
        pytest.importorskip("bitsandbytes")
        weight = torch.randn(64, 64)
        packed, absmax = torch.ops.bitsandbytes.quantize_4bit(weight, 64, "nf4", torch.uint8)
        row = torch.ones(1, 1, 64)
        work = counted(lambda: torch.ops.bitsandbytes.gemm_4bit(row, packed, [64, 64], absmax, 64, "nf4"))
        assert work.flops == {"fp32": 2 * 64 * 64}


def test_phases_add_up_to_the_step_and_a_decode_is_shared_out():
    square = torch.ones(4, 4)
    phases = CountedPhases(lambda name: None)
    with phases("prefill"):
        _ = square @ square
    for _ in range(2):
        with phases("decode"):
            _ = square @ square

    def share(samples):
        assert samples["step"] == [sum(samples[name][0] for name in ("prefill", "decode"))]
        return {"prefill": samples["prefill"], "decode": [samples["decode"][0] / 2]}

    one = {"flops": {"fp32": 128}, "moved_bytes": 3 * 16 * 4}
    assert phases.work(share) == {"prefill": one, "decode": one}
