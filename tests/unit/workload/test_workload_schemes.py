"""What the schemes are observed to lose on a model of a case."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lorabench.case import Adapter, Case
from lorabench.device.cpu import CpuDevice
from lorabench.model.build import build_base
from lorabench.model.schemes import absmax
from lorabench.workload import schemes
from lorabench.workload.schemes import compare_codes, observe, spread

CASE = Case(scenario="s", task="lifecycle", model="llama-tiny", quantization="int8", sequence_length=24)


def test_one_module_of_each_kind_from_the_first_layer_to_the_last() -> None:
    names = [f"layers.{layer}.{kind}" for layer in range(9) for kind in ("q", "k", "v", "up", "down")]
    assert spread(names) == ["layers.0.q", "layers.2.k", "layers.4.v", "layers.6.up", "layers.8.down"]
    assert spread(["layers.0.c", "layers.1.c"]) == ["layers.0.c"]
    assert spread([]) == []


def test_the_observation_of_a_case() -> None:
    seen = observe(CASE, CpuDevice())
    assert [name.rpartition(".")[2] for name in seen["modules"]] == [
        *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    ]
    losses = {(one["tensor"], one["scheme"], one["axis"]): one for one in seen["errors"]}
    assert len(losses) == len(seen["errors"]) == 3 * 2 * 2
    # Three matrices of 24 x 256 go in, or of 24 x 688 for the last one.
    weights, activations = losses["weights", "absmax", "row"], losses["activations", "zero-point", "tensor"]
    assert activations["elements"] == 24 * (6 * 256 + 688)
    assert activations["bytes"] == activations["elements"] + 7 * (4 + 1)
    rows = 256 + 128 + 128 + 256 + 688 + 688 + 256
    assert weights["elements"] == 256 * (256 + 128 + 128 + 256 + 688 + 688 + 688)
    assert weights["bytes"] == weights["elements"] + rows * 4
    skewed = {scheme: losses["skewed", scheme, "row"]["relative_error"] for scheme in ("absmax", "zero-point")}
    assert skewed["zero-point"] == pytest.approx(skewed["absmax"] / 2, rel=0.02)
    for one in seen["errors"]:
        finer = losses[one["tensor"], one["scheme"], "row"]["relative_error"]
        assert 0 < finer <= one["relative_error"] < 0.05
    codes = seen["absmax_codes"]
    assert codes["compared"] == sum(
        losses[kind, "absmax", "row"]["elements"] for kind in ("weights", "activations", "skewed")
    )
    assert (codes["differing"], codes["largest_difference"]) == (0, 0)


def test_the_error_of_weights_by_hand() -> None:
    seen = observe(CASE, CpuDevice())
    model = build_base(replace(CASE, quantization="fp32"), torch.device("cpu"))
    weights = [model.get_submodule(name).weight for name in seen["modules"]]
    lost = torch.cat([(absmax(weight, "row").values() - weight).flatten() for weight in weights])
    held = torch.cat([weight.flatten() for weight in weights])
    [error] = [
        one["relative_error"]
        for one in seen["errors"]
        if (one["tensor"], one["scheme"], one["axis"]) == ("weights", "absmax", "row")
    ]
    assert error == pytest.approx(float(lost.detach().norm() / held.detach().norm()), rel=1e-4)


def test_activations_are_what_the_layers_are_given() -> None:
    """All inputs of the first layer's query, key and value are one tensor: the normed embedding of the tokens."""
    model = build_base(replace(CASE, quantization="fp32"), torch.device("cpu"))
    first = model.model.layers[0]
    queries, keys = schemes._activations(
        model, [first.self_attn.q_proj, first.self_attn.k_proj], CASE, torch.device("cpu")
    )
    assert torch.equal(queries, keys)
    assert queries.shape == (24, 256)
    # RMSNorm with weights of one.
    assert torch.allclose(queries.square().mean(dim=1), torch.ones(24), atol=0.1)
    assert not first.self_attn.q_proj._forward_pre_hooks


@pytest.mark.parametrize(
    ("model", "adapter"),
    [
        ("opt-tiny", Adapter()),
        ("llama-tiny", Adapter(task_type="SEQ_CLS")),
    ],
)
def test_other_architectures_and_heads(model: str, adapter: Adapter) -> None:
    seen = observe(replace(CASE, model=model, adapter=adapter), CpuDevice())
    assert seen["absmax_codes"]["differing"] == 0
    assert "score" not in seen["modules"]


def test_a_large_model_with_random_weights_is_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemes, "WHOLE_PARAMETERS", 1_000_000)
    layers = {name.split(".")[2] for name in observe(CASE, CpuDevice())["modules"]}
    assert layers == {"0", "1"}


def test_codes_that_differ_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    codes = absmax(matrix.half(), "row").codes.clone()
    codes[0, :3] += torch.tensor([1, -1, 2], dtype=torch.int8)
    monkeypatch.setattr(schemes, "int8_vectorwise_quant", lambda half: (codes, None, None))
    assert compare_codes([matrix]) == {"compared": 64, "differing": 3, "largest_difference": 2}
