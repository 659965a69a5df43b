"""Tiny models of six architectures, and an adapter for each."""

from __future__ import annotations

from typing import Any

import torch
from transformers import BertConfig, GPT2Config, LlamaConfig, OPTConfig, PreTrainedConfig, Qwen2Config, T5Config

from lorabench.case import Adapter

CPU = torch.device("cpu")
VOCABULARY = 256
TOKENS: dict[str, Any] = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
DECODER = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
CONFIGS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**TOKENS, **DECODER, num_key_value_heads=2),
    "qwen2": Qwen2Config(**TOKENS, **DECODER, num_key_value_heads=2, tie_word_embeddings=True),
    "opt": OPTConfig(
        **TOKENS,
        hidden_size=64,
        word_embed_proj_dim=64,
        ffn_dim=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
    ),
    "gpt2": GPT2Config(**TOKENS, n_embd=64, n_layer=2, n_head=4, n_positions=64),
    "t5": T5Config(
        vocab_size=VOCABULARY, d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, decoder_start_token_id=0
    ),
    "bert": BertConfig(**{**TOKENS, **DECODER}, max_position_embeddings=64),
}
ADAPTERS = {
    "llama": Adapter(),
    "qwen2": Adapter(),
    "opt": Adapter(),
    "gpt2": Adapter(target_modules=("c_attn",)),
    "t5": Adapter(target_modules=("q", "v"), task_type="SEQ_2_SEQ_LM"),
    "bert": Adapter(target_modules=("query", "value"), task_type="SEQ_CLS"),
}
