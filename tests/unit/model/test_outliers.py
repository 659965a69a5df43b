"""Shares of outlier columns that are derived from the initialisation, against simulations and an H100."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from lorabench.case import Case
from lorabench.errors import DeviceError
from lorabench.model.build import build_base, build_skeleton
from lorabench.model.outliers import _product_tail, derived_shares, measured_shares


def shares_of(model: str, batch_size: int, sequence_length: int, threshold: float = 6.0) -> dict[str, float]:
    case = Case(
        scenario="shares",
        task="train",
        model=model,
        quantization="int8",
        int8_threshold=threshold,
        batch_size=batch_size,
        sequence_length=sequence_length,
    )
    return derived_shares(build_skeleton(case), case)


def test_the_tail_of_a_gated_product_is_what_sampling_finds() -> None:
    generator = torch.Generator().manual_seed(0)
    gate, up = (1.3 * torch.randn(4_000_000, generator=generator) for _ in range(2))
    values = (functional.silu(gate) * up).abs()
    for threshold in (1.0, 3.0, 6.0):
        sampled = float((values >= threshold).double().mean())
        assert _product_tail(functional.silu, 1.3, 1.3, threshold) == pytest.approx(sampled, rel=0.03)


def test_the_tail_without_a_gate_is_that_of_the_activation() -> None:
    # relu(g) >= t where g >= t.
    expected = math.erfc(2 / math.sqrt(2)) / 2
    assert _product_tail(functional.relu, 1.0, None, 2.0) == pytest.approx(expected, rel=0.01)


# The mean over the layers of results measured on an H100, random weights, threshold 6.
@pytest.mark.parametrize(("batch_size", "measured"), [(1, 0.0240), (4, 0.0904)])
def test_shares_are_what_an_h100_measured(batch_size: int, measured: float) -> None:
    shares = shares_of("llama-3.2-1b", batch_size, 512)
    assert len(shares) == 16 * 7
    second = {share for name, share in shares.items() if name.endswith("down_proj")}
    assert len(second) == 1
    [share] = second
    # On the high side, as rows are not independent.
    assert measured <= share <= 1.1 * measured
    assert all(share == 0 for name, share in shares.items() if not name.endswith("down_proj"))


def test_wide_models_have_many_and_narrow_ones_none() -> None:
    assert shares_of("llama-2-7b", 1, 512)["model.layers.31.mlp.down_proj"] == pytest.approx(0.82, abs=0.01)
    assert set(shares_of("qwen2.5-0.5b", 1, 512).values()) == {0.0}


@pytest.mark.parametrize("model", ["opt-125m", "gpt2"])
def test_plain_mlps_are_understood(model: str) -> None:
    assert set(shares_of(model, 1, 512).values()) == {0.0}
    some = shares_of(model, 1, 512, threshold=2.0)
    assert min(some.values()) < 1 < 2 * max(some.values())


def test_a_low_threshold_makes_outliers_of_normalised_inputs() -> None:
    share = shares_of("llama-tiny", 1, 16, threshold=2.0)["model.layers.0.self_attn.q_proj"]
    p = math.erfc(2 / math.sqrt(2))
    assert share == pytest.approx(1 - (1 - p) ** 16, abs=0.01)


def test_shares_are_counted_where_there_are_values() -> None:
    case = Case(
        scenario="shares", task="train", model="llama-tiny", quantization="int8", sequence_length=16, int8_threshold=2.0
    )
    dense = build_base(replace(case, quantization="fp32"), torch.device("cpu"))
    measured = measured_shares(dense, case)
    derived = derived_shares(build_skeleton(case), case)
    assert measured.keys() == derived.keys()
    # Rows of the first layer's input are independent; what follows attention has rows in common, and fewer outliers.
    first = "model.layers.0.self_attn.q_proj"
    assert measured[first] == pytest.approx(derived[first], abs=0.1)
    assert all(measured[name] <= share + 0.05 for name, share in derived.items())
    assert set(measured_shares(dense, replace(case, int8_threshold=1e-6)).values()) == {1.0}
    assert set(measured_shares(dense, replace(case, int8_threshold=1e4)).values()) == {0.0}


def test_what_is_not_understood_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(scenario="shares", task="train", model="llama-tiny", quantization="int8")
    skeleton = build_skeleton(case)
    monkeypatch.delattr(type(skeleton.config), "hidden_act")
    vars(skeleton.config).pop("hidden_act", None)
    with pytest.raises(DeviceError, match="cannot be derived"):
        derived_shares(skeleton, case)
