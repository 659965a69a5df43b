"""The two schemes that turn numbers into 8-bit integers, written to be read: absolute maximum and zero point.

Both are of Dettmers et al. 2022 (LLM.int8(), arXiv 2208.07339), section 2, "8-bit Data Types and Quantization". Each
maps a range of numbers onto integers that are ``step`` apart, and rounds; what is read back is off by half a step at
most. They differ in the range: absolute maximum covers [-m, m], where m is the largest magnitude, and wastes half of it
on numbers of one sign; zero point covers [min, max] and has to keep where zero lies.

``axis`` says what shares a range: ``row`` gives each row its own (as LLM.int8() does for inputs and weights, section
3.1, "vector-wise"), ``tensor`` gives all the same, so that one outlier coarsens every number.

bitsandbytes has the absolute maximum alone: ``int8_vectorwise_quant``, row-wise, on fp16.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch

Axis = Literal["row", "tensor"]

LARGEST_CODE = 127


@dataclass(frozen=True)
class Quantized:
    """An 8-bit matrix: ``codes`` [rows, columns] int8, and for each range the width of a ``step`` in fp32.

    ``zeros`` are the codes that mean zero, int8; None where that is 0 for all. ``steps`` and ``zeros`` are [rows, 1],
    or [1, 1] with one range for the whole tensor.
    """

    codes: torch.Tensor
    steps: torch.Tensor
    zeros: torch.Tensor | None = None

    def values(self) -> torch.Tensor:
        """What is read back, fp32: (code - zero) x step."""
        codes = self.codes.float()
        return (codes if self.zeros is None else codes - self.zeros.float()) * self.steps

    @property
    def nbytes(self) -> int:
        """Bytes of the codes and of all that is needed to read them back."""
        zeros_bytes = 0 if self.zeros is None else self.zeros.nbytes
        return int(self.codes.nbytes + self.steps.nbytes + zeros_bytes)


def absmax(values: torch.Tensor, axis: Axis) -> Quantized:
    """``code = round(x * (127 / max|x|))``, of [rows, columns] in fp16 or fp32.

    The order counts for bit equality with bitsandbytes (``int8_vectorwise_quant`` in backends/default/ops.py): the
    quotient is rounded to fp32 first, and torch computes it as ``(1 / max|x|) * 127``. Ties go to the even integer.
    """
    largest = _over(axis, values.abs(), torch.amax).float()
    codes = torch.round(values * _quotient(LARGEST_CODE, largest))
    return Quantized(codes.to(torch.int8), largest / LARGEST_CODE)


def zero_point(values: torch.Tensor, axis: Axis) -> Quantized:
    """``code = round(x * n) + zero`` with ``n = 254 / (max - min)`` and ``zero = -127 - round(min * n)``, as above.

    The paper prints the zero point as round(x * min), which has x in it. This is the usual form: min becomes -127
    and max 127 (Jacob et al. 2018, arXiv 1712.05877, equation 1 and section 3). As there, the range is stretched to
    hold 0 where all numbers have one sign, so that 0 is a code, means exactly zero, and fits in 8 bits itself.
    """
    values = values.float()
    lowest = _over(axis, values, torch.amin).clamp(max=0)
    highest = _over(axis, values, torch.amax).clamp(min=0)
    width = highest - lowest
    per_step = _quotient(2 * LARGEST_CODE, width)
    zeros = -LARGEST_CODE - torch.round(lowest * per_step)
    # Of a product that is 127.5 by rounding alone, the code would be 128.
    codes = (torch.round(values * per_step) + zeros).clamp(-LARGEST_CODE, LARGEST_CODE)
    return Quantized(codes.to(torch.int8), width / (2 * LARGEST_CODE), zeros.to(torch.int8))


SCHEMES: Mapping[str, Callable[[torch.Tensor, Axis], Quantized]] = {"absmax": absmax, "zero-point": zero_point}


def _over(axis: Axis, values: torch.Tensor, reduce: Callable[..., torch.Tensor]) -> torch.Tensor:
    return reduce(values, dim=1 if axis == "row" else (0, 1), keepdim=True)


def _quotient(numerator: int, denominators: torch.Tensor) -> torch.Tensor:
    """0 where the denominator is: a range of zeros has no width, and its codes are zeros."""
    return torch.where(denominators > 0, numerator / denominators, 0.0)
