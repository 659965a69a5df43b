"""Remembered outputs against those of FakeTensorMode itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from lorabench.device.fake import FakeDevice
from lorabench.device.outcomes import Outcomes
from lorabench.errors import DeviceError

ATEN = torch.ops.aten
Call = tuple[Any, tuple[Any, ...], dict[str, Any]]


def calls() -> dict[str, Call]:
    """Operators with their arguments."""
    bf16, integers, truths = (
        torch.empty(4, 4, dtype=torch.bfloat16),
        torch.empty(4, dtype=torch.int32),
        torch.empty(4) > 0,
    )
    rows, row = torch.empty(4, 8), torch.empty(4)
    return {
        "new": (ATEN.mm.default, (rows, torch.empty(8, 6)), {}),
        "new with strides": (ATEN.add.Tensor, (rows.t(), torch.empty(8, 1)), {}),
        "no elements": (ATEN.mul.Tensor, (torch.empty(0, 3), 2.0), {}),
        "view": (ATEN.view.default, (rows, [2, 16]), {}),
        "view of a part": (ATEN.slice.Tensor, (rows, 0, 1, 3), {}),
        "views": (ATEN.split.Tensor, (rows, 2), {}),
        "in place": (ATEN.add_.Tensor, (row, torch.empty(4)), {}),
        "in place, with itself": (ATEN.add_.Tensor, (rows, rows), {}),
        "several": (ATEN.native_dropout.default, (rows, 0.1, True), {}),
        "nothing": (ATEN._foreach_add_.Scalar, ([row, rows], 1.0), {}),
        "list": (ATEN._foreach_sqrt.default, ([row, rows],), {}),
        "whole number": (ATEN.mul.Tensor, (integers, 1), {}),
        "fraction": (ATEN.mul.Tensor, (integers, 1.0), {}),
        "truth": (ATEN.mul.Tensor, (truths, True), {}),
        "keyword": (ATEN._to_copy.default, (row,), {"dtype": torch.bfloat16}),
        "dtype of the result": (ATEN.sum.dim_IntList, (bf16, [1]), {"dtype": torch.float32}),
    }


def described(result: Any, args: tuple[Any, ...]) -> Any:
    """Sizes of each output and of its storage, and of which argument it is or shares the storage of."""
    if isinstance(result, (list, tuple)):
        return type(result), [described(one, args) for one in result]
    if result is None:
        return None
    storage = result.untyped_storage()
    tensors = [arg for arg in torch.utils._pytree.tree_leaves(args) if isinstance(arg, Tensor)]
    shares = [tensor.untyped_storage()._cdata == storage._cdata for tensor in tensors]
    same = [tensor is result for tensor in tensors]
    sizes = (tuple(result.shape), result.stride(), result.storage_offset(), storage.nbytes())
    return sizes, result.dtype, result.fake_device, result.requires_grad, shares, same


@pytest.fixture
def mode() -> Iterator[FakeTensorMode]:
    with FakeTensorMode() as mode:
        yield mode


def test_what_is_remembered_is_what_the_mode_answers(mode: FakeTensorMode) -> None:
    outcomes = Outcomes(mode)
    for number, (name, (func, args, options)) in enumerate(calls().items(), start=1):
        own = described(func(*args, **options), args)
        for _ in range(2):
            assert described(outcomes.call(func, args, options), args) == own, name
        assert len(outcomes._known) == number, f"{name}: not remembered, or taken for another call"


def test_each_call_has_a_storage_of_its_own(mode: FakeTensorMode) -> None:
    outcomes = Outcomes(mode)
    made = [outcomes.call(ATEN.mul.Tensor, (torch.empty(4), 2.0), None) for _ in range(3)]
    assert all(isinstance(one, FakeTensor) for one in made)
    assert len({one.untyped_storage()._cdata for one in made}) == 3


def test_other_sizes_strides_and_dtypes_are_other_calls(mode: FakeTensorMode) -> None:
    outcomes = Outcomes(mode)
    inputs = [
        torch.empty(4, 6),
        torch.empty(6, 4).t(),
        torch.empty(4, 6, dtype=torch.float16),
        torch.empty(4, 7),
        torch.empty(5, 6)[1:],
    ]
    for tensor in 2 * inputs:
        expected = ATEN.neg.default(tensor)
        answer = outcomes.call(ATEN.neg.default, (tensor,), None)
        assert (answer.shape, answer.stride(), answer.dtype) == (expected.shape, expected.stride(), expected.dtype)
    assert len(outcomes._known) == len(inputs)


def test_values_that_are_known_are_computed_anew(mode: FakeTensorMode) -> None:
    outcomes = Outcomes(mode)
    numbers = [torch.tensor(number) for number in (2.0, 3.0)]
    assert [outcomes.call(ATEN.mul.Tensor, (number, 2.0), None).item() for number in numbers] == [4.0, 6.0]
    assert not outcomes._known


def test_reading_a_value_is_refused_every_time() -> None:
    with FakeDevice().session():
        numbers = torch.empty(8)
        for _ in range(2):
            with pytest.raises(DeviceError, match="hold none"):
                numbers[0].item()


def test_what_is_made_of_a_remembered_output_can_be_differentiated() -> None:
    with FakeDevice().session():
        for _ in range(2):
            weight = torch.empty(8, 8, requires_grad=True)
            (weight.t() @ weight).view(64)[:32].sum().backward()
            assert weight.grad is not None
            assert weight.grad.shape == weight.shape
