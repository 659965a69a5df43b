"""The packaged pretrained model: its weights are those of the file, and they have learned something."""

from __future__ import annotations

import errno
import time
from dataclasses import replace
from pathlib import Path

import gguf
import pytest
import torch

from lorabench.case import Case
from lorabench.model import packaged
from lorabench.model.architecture import gguf_folder_and_file
from lorabench.model.build import build_base
from lorabench.model.packaged import must_unpack, unpack
from lorabench.model.tokenizer import load_tokenizer
from lorabench.shared_folder import share

TEXT = (
    "The quick brown fox jumps over the lazy dog. Water boils at one hundred degrees Celsius at sea level, and "
    "freezes at zero degrees. The capital of France is Paris, and the capital of Italy is Rome."
)


def case(quantization: str) -> Case:
    return Case(
        scenario="s",
        task="infer",
        model="smollm2-135m",
        weights="pretrained",
        quantization=quantization,  # type: ignore[arg-type]
        compute_dtype="fp32",
        adapter=None,
    )


@pytest.mark.slow
def test_the_packaged_model() -> None:
    packaged = gguf_folder_and_file(case("fp32"))
    assert packaged is not None
    folder, file = packaged
    reader = gguf.GGUFReader(str(Path(folder) / file))
    ids = torch.tensor([load_tokenizer(case("fp32"))(TEXT)["input_ids"]])
    losses = {}
    for quantization in ("fp32", "int8"):
        model = build_base(case(quantization), torch.device("cpu"))
        with torch.no_grad():
            losses[quantization] = model(input_ids=ids, labels=ids).loss.item()
        tensors = {tensor.name: tensor for tensor in reader.tensors}
        embedding = tensors["token_embd.weight"]
        stored = torch.from_numpy(gguf.dequantize(embedding.data, embedding.tensor_type))
        assert torch.equal(model.get_input_embeddings().weight.float(), stored.float())
        norm = torch.from_numpy(tensors["blk.3.attn_norm.weight"].data.copy())
        assert torch.equal(model.model.layers[3].input_layernorm.weight, norm)
        assert model.config.rope_parameters["rope_theta"] == float(reader.fields["llama.rope.freq_base"].parts[-1][0])
    # A model that knows nothing loses log(49152) = 10.8 nats a token; this one knows such sentences well.
    assert losses["fp32"] < 3.5
    assert losses["int8"] == pytest.approx(losses["fp32"], rel=0.1)


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LORABENCH_SHARED_FOLDER", "")
    share(tmp_path)
    return tmp_path


def state(quantization: str) -> dict[str, torch.Tensor]:
    return build_base(case(quantization), torch.device("cpu")).state_dict()


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.glob("*/*")}


@pytest.mark.slow
def test_unpacked_for_all_jobs_it_is_the_same_model(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert must_unpack(case("fp32"))
    unpack(case("fp32"))
    assert not must_unpack(case("int8"))
    assert names(shared) == {f"SmolLM2-135M-Instruct.Q4_1/{name}" for name in ("weights.safetensors", "tokenizer")}
    unpacked = {quantization: state(quantization) for quantization in ("fp32", "fp16", "int8")}
    ids = load_tokenizer(case("fp32"))(TEXT)["input_ids"]
    monkeypatch.delenv("LORABENCH_SHARED_FOLDER")
    for quantization, found in unpacked.items():
        expected = state(quantization)
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            assert found[name].dtype == tensor.dtype
            assert torch.equal(found[name], tensor), name
    assert load_tokenizer(case("fp32"))(TEXT)["input_ids"] == ids


def test_only_what_comes_in_a_package_is_unpacked(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not must_unpack(replace(case("fp32"), weights="random"))
    assert not must_unpack(replace(case("fp32"), model=str(shared)))
    # A preset without weights is refused where it is built, not here.
    assert not must_unpack(replace(case("fp32"), model="llama-2-7b"))
    monkeypatch.delenv("LORABENCH_SHARED_FOLDER")
    assert not must_unpack(case("fp32"))


@pytest.mark.parametrize("seconds", [0, 60])
def test_where_it_cannot_be_unpacked_every_job_reads_the_file(
    shared: Path, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    class Tokenizer:
        def save_pretrained(self, folder: Path) -> None:
            assert folder.with_name("weights.safetensors").exists()
            time.sleep(seconds)
            raise OSError("No space left on device")

    monkeypatch.setattr(packaged, "_WITHIN_S", 1)
    monkeypatch.setattr(packaged, "_dequantized", lambda *_: (None, {"weight": torch.ones(3)}))
    monkeypatch.setattr(packaged, "_tokenizer_of", lambda *_: Tokenizer())
    unpack(case("fp32"))
    assert names(shared) == set(), "nothing unfinished takes up room"
    assert not must_unpack(case("fp32")), "once is enough"
    assert isinstance(load_tokenizer(case("fp32")), Tokenizer)


def test_without_room_for_a_process_the_job_goes_on(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_fork() -> int:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(packaged.os, "fork", no_fork)
    unpack(case("fp32"))
    assert names(shared) == set()
    assert not must_unpack(case("fp32"))
