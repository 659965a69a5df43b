"""A preset's layers counted from its configuration: a second opinion, without torch, on what records counted.

The shapes are those that the modeling files of transformers build from the same configuration. Models that are no
preset have no shapes here, and a claim that needs them leaves such records out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lorabench.catalog import PRESETS
from lorabench.record import Record

ITEM_BYTES: Mapping[str, int] = {"fp32": 4, "fp16": 2, "bf16": 2}
_LABELS = 2
"""Classes of a classifier's head: transformers' default."""
_NF4_BLOCK, _NF4_OUTER_BLOCK, _CODE_BYTES, _OUTER_CODE_BYTES = 64, 256, 16 * 4, 256 * 4


@dataclass(frozen=True)
class Linear:
    """``copies`` linear layers of one shape, under the last part of their name."""

    name: str
    ingoing: int
    outgoing: int
    copies: int
    bias: bool = False

    @property
    def weights(self) -> int:
        return self.copies * self.ingoing * self.outgoing

    @property
    def biases(self) -> int:
        return self.copies * self.outgoing if self.bias else 0


@dataclass(frozen=True)
class Shapes:
    """What a bare model is made of.

    ``linear`` are the layers that ``all-linear`` covers and that are quantized; ``embeddings`` counts all embedding
    parameters, ``head`` those of an output head of its own (0 where it is tied to the embedding), ``norms`` all of the
    norms' with ``norm_biases`` among them.
    """

    linear: tuple[Linear, ...]
    embeddings: int
    head: int
    norms: int
    norm_biases: int
    hidden: int

    @property
    def parameters(self) -> int:
        return self.quantized + self.kept

    @property
    def quantized(self) -> int:
        """Parameters that 8-bit and 4-bit loading quantizes: the weights of linear layers but the output head."""
        return sum(layer.weights for layer in self.linear)

    @property
    def kept(self) -> int:
        """Parameters that stay as they are: embeddings, head, norms, biases."""
        return self.embeddings + self.head + self.norms + sum(layer.biases for layer in self.linear)

    @property
    def biases(self) -> int:
        return self.norm_biases + sum(layer.biases for layer in self.linear)

    def targets(self, target_modules: Any) -> tuple[Linear, ...] | None:
        """The linear layers that ``target_modules`` names; None for a pattern or a name that is not a linear layer."""
        if target_modules == "all-linear":
            return self.linear
        if isinstance(target_modules, str) or not target_modules:
            return None
        known = {layer.name for layer in self.linear}
        if not known.issuperset(target_modules):
            return None
        return tuple(layer for layer in self.linear if layer.name in target_modules)

    def quantized_bytes(self, quantization: str, *, double: bool = False) -> int:
        """Bytes of the quantized weights with their state.

        int8 keeps an fp32 scale for each output (``SCB`` in bitsandbytes/nn/modules.py); nf4 half a byte a weight, an
        fp32 scale for each 64 (Dettmers et al. 2023, section 3), which ``double`` turns into one byte and an fp32
        scale for each 256 of them, and the code's 16 values for each layer.
        """
        if quantization == "int8":
            return self.quantized + 4 * sum(layer.copies * layer.outgoing for layer in self.linear)
        total = 0
        for layer in self.linear:
            blocks = -(-layer.ingoing * layer.outgoing // _NF4_BLOCK)
            state = _CODE_BYTES + 4 * blocks
            if double:
                # Scales in bytes, their own scales and code, and the mean that was taken off.
                state = _CODE_BYTES + blocks + 4 * -(-blocks // _NF4_OUTER_BLOCK) + _OUTER_CODE_BYTES + 4
            total += layer.copies * (layer.ingoing * layer.outgoing // 2 + state)
        return total

    def weight_bytes(
        self, quantization: str, *, kept_item_bytes: int = 2, prepared: bool = False, double: bool = False
    ) -> int:
        """Bytes of the base weights; preparation for k-bit training casts what is not quantized to fp32."""
        if quantization in ITEM_BYTES:
            return self.parameters * ITEM_BYTES[quantization]
        return self.quantized_bytes(quantization, double=double) + self.kept * (4 if prepared else kept_item_bytes)


def shapes_of(record: Record) -> Shapes | None:
    """The shapes of the record's model; None unless it is a preset that has not changed since."""
    preset = PRESETS.get(str(record.case.get("model")))
    if preset is None or record.case.get("architecture") not in ("", None, preset.digest):
        return None
    adapter = record.case.get("adapter") or {}
    if preset.model_type in ("t5", "bert") and adapter.get("task_type") == "TOKEN_CLS":
        # A token classifier has no decoder in T5, and no pooler in BERT.
        return None
    return shapes(str(record.case["model"]))


def shapes(model: str) -> Shapes:
    """The shapes of the preset ``model`` with its language model's head (BERT has none here)."""
    preset = PRESETS[model]
    return _COUNTERS[preset.model_type](preset.config, preset.model_type)


def adapter_parameters(layers: tuple[Linear, ...], rank: int) -> int:
    """The sum of r (in + out) over the adapted layers (Hu et al. 2021, section 4.1)."""
    return sum(layer.copies * rank * (layer.ingoing + layer.outgoing) for layer in layers)


def task_head_parameters(found: Shapes, model: str, task_type: str) -> int:
    """Parameters of the head that PEFT trains whole with a classifying task type; 0 for the other types.

    A token classifier's head has a bias, a sequence classifier's only in BERT.
    """
    if task_type not in ("SEQ_CLS", "TOKEN_CLS"):
        return 0
    if PRESETS[model].model_type == "t5" and task_type == "SEQ_CLS":
        # classification_head has a dense layer and a projection, both with a bias; PEFT does not know its name.
        return 0
    bias = task_type == "TOKEN_CLS" or PRESETS[model].model_type == "bert"
    return _LABELS * (found.hidden + bias)


def _llama(config: Mapping[str, Any], model_type: str) -> Shapes:
    hidden, intermediate, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    head_size = config.get("head_dim") or hidden // config["num_attention_heads"]
    queries, keys = head_size * config["num_attention_heads"], head_size * config["num_key_value_heads"]
    bias = model_type == "qwen2"
    linear = (
        Linear("q_proj", hidden, queries, layers, bias),
        Linear("k_proj", hidden, keys, layers, bias),
        Linear("v_proj", hidden, keys, layers, bias),
        Linear("o_proj", queries, hidden, layers),
        Linear("gate_proj", hidden, intermediate, layers),
        Linear("up_proj", hidden, intermediate, layers),
        Linear("down_proj", intermediate, hidden, layers),
    )
    embeddings = config["vocab_size"] * hidden
    head = 0 if config["tie_word_embeddings"] else embeddings
    return Shapes(linear, embeddings, head, norms=(2 * layers + 1) * hidden, norm_biases=0, hidden=hidden)


def _opt(config: Mapping[str, Any], _: str) -> Shapes:
    hidden, feed_forward, layers = config["hidden_size"], config["ffn_dim"], config["num_hidden_layers"]
    attention = tuple(Linear(name, hidden, hidden, layers, True) for name in ("q_proj", "k_proj", "v_proj", "out_proj"))
    fully_connected = (
        Linear("fc1", hidden, feed_forward, layers, True),
        Linear("fc2", feed_forward, hidden, layers, True),
    )
    # Positions are shifted by two (OPTLearnedPositionalEmbedding).
    embeddings = (config["vocab_size"] + config["max_position_embeddings"] + 2) * hidden
    norm_biases = (2 * layers + 1) * hidden
    return Shapes(attention + fully_connected, embeddings, 0, 2 * norm_biases, norm_biases, hidden)


def _gpt2(config: Mapping[str, Any], _: str) -> Shapes:
    hidden, layers = config["n_embd"], config["n_layer"]
    linear = (
        Linear("c_attn", hidden, 3 * hidden, layers, True),
        Linear("c_proj", hidden, hidden, layers, True),
        Linear("c_fc", hidden, 4 * hidden, layers, True),
        Linear("c_proj", 4 * hidden, hidden, layers, True),
    )
    norm_biases = (2 * layers + 1) * hidden
    embeddings = (config["vocab_size"] + config["n_positions"]) * hidden
    return Shapes(linear, embeddings, 0, 2 * norm_biases, norm_biases, hidden)


def _t5(config: Mapping[str, Any], _: str) -> Shapes:
    hidden, feed_forward = config["d_model"], config["d_ff"]
    encoder, decoder = config["num_layers"], config["num_decoder_layers"]
    inner = config["d_kv"] * config["num_heads"]
    attentions, layers = encoder + 2 * decoder, encoder + decoder
    linear = (
        *(Linear(name, hidden, inner, attentions) for name in ("q", "k", "v")),
        Linear("o", inner, hidden, attentions),
        Linear("wi", hidden, feed_forward, layers),
        Linear("wo", feed_forward, hidden, layers),
    )
    buckets = 2 * config["relative_attention_num_buckets"] * config["num_heads"]
    norms = (2 * encoder + 3 * decoder + 2) * hidden
    return Shapes(linear, config["vocab_size"] * hidden + buckets, 0, norms, 0, hidden)


def _bert(config: Mapping[str, Any], _: str) -> Shapes:
    hidden, intermediate, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    linear = (
        *(Linear(name, hidden, hidden, layers, True) for name in ("query", "key", "value", "dense")),
        Linear("dense", hidden, intermediate, layers, True),
        Linear("dense", intermediate, hidden, layers, True),
        Linear("dense", hidden, hidden, 1, True),  # the pooler's
    )
    embeddings = (config["vocab_size"] + config["max_position_embeddings"] + config["type_vocab_size"]) * hidden
    norm_biases = (2 * layers + 1) * hidden
    return Shapes(linear, embeddings, 0, 2 * norm_biases, norm_biases, hidden)


_COUNTERS: Mapping[str, Callable[[Mapping[str, Any], str], Shapes]] = {
    "llama": _llama,
    "qwen2": _llama,
    "mistral": _llama,
    "opt": _opt,
    "gpt2": _gpt2,
    "t5": _t5,
    "bert": _bert,
}
