"""The table of audited operators: names that exist, and formulas against sizes worked out by hand."""

from __future__ import annotations

import pytest
import torch

from lorabench.catalog import CARDS
from lorabench.device.allocator import MIB
from lorabench.device.audit import TEMPORARIES
from lorabench.device.dense_kernels import KERNELS
from lorabench.device.predicted_card import predicting_for
from lorabench.device.workspaces import CUBLAS_OPERATORS, cublas_workspace_bytes


def test_every_audited_operator_exists() -> None:
    missing = []
    for name in TEMPORARIES:
        namespace, _, operator = name.partition("::")
        if not hasattr(getattr(torch.ops, namespace), operator):
            missing.append(name)
    assert missing == []


def test_matrix_products_are_audited() -> None:
    assert set(TEMPORARIES) >= CUBLAS_OPERATORS


@pytest.mark.parametrize(
    ("capability", "expected"), [((9, 0), 32 * MIB), ((8, 0), 8 * MIB + 128 * 1024), ((7, 5), 8 * MIB + 128 * 1024)]
)
def test_cublas_workspaces(capability: tuple[int, int], expected: int) -> None:
    assert cublas_workspace_bytes(capability) == expected


def half(*shape: int) -> torch.Tensor:
    return torch.empty(*shape, dtype=torch.bfloat16, device="meta")


def backward_bytes(query: torch.Tensor, key: torch.Tensor) -> list[int]:
    return TEMPORARIES["aten::_scaled_dot_product_flash_attention_backward"]([query, query, key, key])


def test_flash_attention_backward_accumulates_in_fp32() -> None:
    # Llama-2-7B at 500 tokens: 32 heads of 128, rows rounded up to 512.
    query = half(1, 32, 500, 128)
    assert backward_bytes(query, query) == [32 * 512 * 4, 32 * 512 * 128 * 4]


def test_flash_attention_backward_expands_grouped_keys() -> None:
    query, key = half(4, 32, 512, 64), half(4, 8, 512, 64)
    expanded = 4 * 512 * 32 * 64 * 2
    assert backward_bytes(query, key)[2:] == [expanded, expanded]


@pytest.mark.parametrize(
    ("query", "key", "expected"),
    [
        # 4 x 32 x 8 blocks of queries fill the card.
        (half(4, 32, 512, 64), half(4, 8, 512, 64), []),
        # One block of keys cannot be split.
        (half(1, 2, 64, 64), half(1, 2, 64, 64), []),
        # A single query over 1024 keys of size 128: at most 8 splits.
        (half(1, 32, 1, 128), half(1, 32, 1024, 128), [8 * 32 * 4, 8 * 32 * 128 * 4]),
    ],
)
def test_flash_attention_splits_keys_for_few_queries(
    query: torch.Tensor, key: torch.Tensor, expected: list[int]
) -> None:
    assert TEMPORARIES["aten::_scaled_dot_product_flash_attention"]([query, key, key]) == expected


def test_softmax_backward_makes_a_product() -> None:
    grad = half(2, 8, 64, 64)
    assert TEMPORARIES["aten::_softmax_backward_data"]([grad, grad, -1, torch.bfloat16]) == [2 * 8 * 64 * 64 * 2]


def test_an_operator_is_audited_or_has_a_stand_in_but_not_both() -> None:
    assert TEMPORARIES.keys().isdisjoint(operator._schema.name for operator in KERNELS)


def test_cudnn_attention_backward_takes_one_workspace() -> None:
    query, key = half(4, 32, 512, 64), half(4, 8, 512, 64)
    taken = TEMPORARIES["aten::_scaled_dot_product_cudnn_attention_backward"]([query, query, key, key])
    assert taken == [sum(backward_bytes(query, key)) + 256]


def test_cudnn_attention_keeps_four_parts_results_of_one_query() -> None:
    """As memory histories of an H100 have it: 270,464 bytes for 256 heads of 64, 256 for more queries than one."""
    key = half(8, 8, 512, 64)
    for queries, expected in ((512, 256), (1, 270_464)):
        query = half(8, 32, queries, 64)
        assert TEMPORARIES["aten::_scaled_dot_product_cudnn_attention"]([query, key, key]) == [expected]


@pytest.mark.parametrize(("size", "buffers"), [(64, []), (128, []), (256, [2 * 64 * 8 * 256 * 4])])
def test_efficient_attention_sums_large_heads_in_fp32(size: int, buffers: list[int]) -> None:
    query = half(2, 8, 64, size)
    assert TEMPORARIES["aten::_scaled_dot_product_efficient_attention"]([query, query, query]) == buffers
    single = torch.empty(2, 8, 64, size, device="meta")
    assert TEMPORARIES["aten::_scaled_dot_product_efficient_attention"]([single, single, single]) == []


def test_a_single_row_is_scanned_with_a_status_a_tile() -> None:
    row, rows = torch.empty(1, 2048, device="meta"), torch.empty(2, 2048, device="meta")
    assert TEMPORARIES["aten::cumsum"]([row, 1]) == [(2 + 32) * 16 + 256]
    assert TEMPORARIES["aten::cumsum"]([rows, 1]) == []


def test_index_put_sorts_only_to_add_up() -> None:
    target, index = torch.empty(16, 8, device="meta"), torch.empty(4, dtype=torch.int64, device="meta")
    assert TEMPORARIES["aten::index_put"]([target, [index], target]) == []
    assert TEMPORARIES["aten::index_put"]([target, [index], target, True])[0] == 4 * 4 * 8


@pytest.mark.parametrize(
    ("card", "rows", "expected"),
    [
        # 32 blocks of columns leave more than half of 132 multiprocessors idle: 1,024 parts, for weight and bias.
        ("H100", 70_000, [1024 * 1024 * 2] * 2),
        # They fill half of 58.
        ("L4", 70_000, []),
        ("H100", 64 * 1024, []),
    ],
)
def test_layer_norm_sums_in_parts_where_columns_leave_the_card_idle(card: str, rows: int, expected: list[int]) -> None:
    statistics = torch.empty(rows, 1, dtype=torch.float32, device="meta")
    args = [half(rows, 1024), half(rows, 1024), [1024], statistics, statistics, half(1024), half(1024)]
    with predicting_for(CARDS[card]):
        assert TEMPORARIES["aten::native_layer_norm_backward"]([*args, [True, True, True]]) == expected
