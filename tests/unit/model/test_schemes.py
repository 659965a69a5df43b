"""The 8-bit schemes against their definitions, against bitsandbytes and against torch's own affine quantizer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from bitsandbytes.functional import int8_vectorwise_dequant, int8_vectorwise_quant
from hypothesis import given
from hypothesis import strategies as st

from lorabench.model.schemes import SCHEMES, Axis, Quantized, absmax, zero_point

AXES: tuple[Axis, ...] = ("row", "tensor")
seeds = st.integers(0, 2**32 - 1)


@st.composite
def matrices(draw: Any) -> torch.Tensor:
    """Normal samples with a scale, a shift and an outlier, fp32."""
    rows, columns = draw(st.integers(1, 8)), draw(st.integers(1, 64))
    generator = torch.Generator().manual_seed(draw(seeds))
    values = torch.randn(rows, columns, generator=generator)
    values = values * 10 ** draw(st.floats(-3, 2)) + draw(st.floats(-3, 3))
    values[draw(st.integers(0, rows - 1)), draw(st.integers(0, columns - 1))] *= draw(
        st.sampled_from([1.0, 30.0, -30.0])
    )
    return values


def error(values: torch.Tensor, quantized: Quantized) -> float:
    return float((quantized.values() - values).norm() / values.norm())


def test_absmax_by_hand() -> None:
    quantized = absmax(torch.tensor([[0.5, -2.0, 1.0], [254.0, 3.0, 0.0]]), "row")
    # Ties go to the even number: 0.5 x 127 / 2 = 31.75, 1.0 x 127 / 2 = 63.5, 3 x 127 / 254 = 1.5.
    assert quantized.codes.tolist() == [[32, -127, 64], [127, 2, 0]]
    assert quantized.steps.flatten().tolist() == pytest.approx([2 / 127, 2.0])
    assert quantized.zeros is None


def test_zero_point_by_hand() -> None:
    quantized = zero_point(torch.tensor([[0.0, 127.0, 254.0], [-127.0, 0.0, 127.0]]), "row")
    assert quantized.codes.tolist() == [[-127, 0, 127], [-127, 0, 127]]
    assert quantized.steps.flatten().tolist() == [1.0, 1.0]
    assert quantized.zeros is not None
    assert quantized.zeros.flatten().tolist() == [-127, 0]


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("scheme", SCHEMES)
@given(values=matrices())
def test_what_is_read_back_is_off_by_half_a_step_at_most(scheme: str, axis: Axis, values: torch.Tensor) -> None:
    quantized = SCHEMES[scheme](values, axis)
    # fp32 rounds the product that is rounded to a code, and the one that is read back: some units in the last place.
    slack = 254 * 4 * torch.finfo(torch.float32).eps
    assert ((quantized.values() - values).abs() <= quantized.steps * (0.5 + slack)).all()
    assert int(quantized.codes.min()) >= -127


@pytest.mark.parametrize("axis", AXES)
@given(values=matrices())
def test_zero_points_steps_are_never_wider(axis: Axis, values: torch.Tensor) -> None:
    """[min, max] lies within [-m, m]."""
    assert (zero_point(values, axis).steps <= absmax(values, axis).steps * (1 + 1e-6)).all()


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("sign", [1, -1])
@given(seed=seeds)
def test_zero_point_halves_step_and_error_of_one_sided_numbers(axis: Axis, sign: int, seed: int) -> None:
    samples = torch.empty(32, 256).exponential_(generator=torch.Generator().manual_seed(seed))
    values = sign * samples
    ours, theirs = zero_point(values, axis), absmax(values, axis)
    assert torch.allclose(2 * ours.steps, theirs.steps)
    assert error(values, ours) == pytest.approx(error(values, theirs) / 2, rel=0.1)


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("scheme", SCHEMES)
@given(values=matrices())
def test_zero_stays_zero(scheme: str, axis: Axis, values: torch.Tensor) -> None:
    values[0, 0] = 0.0
    assert SCHEMES[scheme](values, axis).values()[0, 0] == 0.0


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_zeros_alone_are_kept(scheme: str, axis: Axis) -> None:
    assert not SCHEMES[scheme](torch.zeros(3, 5), axis).values().any()


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("scheme", SCHEMES)
@given(values=matrices())
def test_quantizing_what_was_read_back_changes_no_code(scheme: str, axis: Axis, values: torch.Tensor) -> None:
    once = SCHEMES[scheme](values, axis)
    again = SCHEMES[scheme](once.values(), axis)
    assert torch.equal(once.codes, again.codes)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_outlier_coarsens_its_row_or_with_one_range_all(scheme: str) -> None:
    values = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))
    calm = SCHEMES[scheme](values, "row")
    values[3, 5] = 100.0
    by_row, by_tensor = (SCHEMES[scheme](values, axis) for axis in AXES)
    others = [row for row in range(16) if row != 3]
    assert torch.equal(by_row.codes[others], calm.codes[others])
    assert by_tensor.steps.shape == (1, 1)
    assert error(values[others], Quantized(by_tensor.codes[others], by_tensor.steps, by_tensor.zeros)) > 10 * error(
        values[others],
        Quantized(calm.codes[others], calm.steps[others], None if calm.zeros is None else calm.zeros[others]),
    )


@given(values=matrices())
def test_absmax_is_bitsandbytes_bit_for_bit(values: torch.Tensor) -> None:
    half = values.to(torch.float16)
    ours = absmax(half, "row")
    codes, largest, _ = int8_vectorwise_quant(half.clone())
    assert torch.equal(ours.codes, codes)
    assert torch.allclose(ours.steps.flatten() * 127, largest, rtol=1e-6, atol=0)
    assert torch.allclose(ours.values(), int8_vectorwise_dequant(codes, largest), rtol=1e-6, atol=0)


@given(values=matrices())
def test_zero_point_is_torchs_affine_quantizer(values: torch.Tensor) -> None:
    """A second implementation: torch takes step and zero, divides instead of multiplying, and rounds the same way."""
    ours = zero_point(values, "tensor")
    assert ours.zeros is not None
    step, zero = ours.steps.item(), int(ours.zeros)
    theirs = torch.fake_quantize_per_tensor_affine(values, step, zero, -127, 127)
    difference = ((ours.values() - theirs) / step).abs().round()
    # Where a quotient lies between two codes, the last bit decides.
    assert int(difference.max()) <= 1
    exact = values.double() / ours.steps.double()
    between = ((exact - exact.floor()) - 0.5).abs() < 1e-4
    assert not difference[~between].any()


def test_bytes_are_codes_and_what_reads_them_back() -> None:
    values = torch.randn(10, 20)
    assert absmax(values, "row").nbytes == 200 + 10 * 4
    assert absmax(values, "tensor").nbytes == 200 + 4
    assert zero_point(values, "row").nbytes == 200 + 10 * (4 + 1)
    assert zero_point(values, "tensor").nbytes == 200 + 4 + 1
