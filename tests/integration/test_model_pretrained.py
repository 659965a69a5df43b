"""The packaged pretrained model: its weights are those of the file, and they have learned something."""

from __future__ import annotations

from pathlib import Path

import gguf
import pytest
import torch

from lorabench.case import Case
from lorabench.model.architecture import gguf_folder_and_file
from lorabench.model.build import build_base
from lorabench.model.tokenizer import load_tokenizer

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
