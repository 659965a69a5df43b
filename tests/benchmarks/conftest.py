"""What the benchmarks share: a small case that still has all the parts of a real one."""

from __future__ import annotations

import pytest

from lorabench.case import Case, Measure


@pytest.fixture
def case() -> Case:
    measure = Measure(warmup=3, steps=15)
    return Case(
        scenario="own-cost", task="train", model="llama-tiny", quantization="fp32", sequence_length=64, measure=measure
    )
