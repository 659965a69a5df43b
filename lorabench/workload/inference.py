"""The inference workload: one prefill as ``generate`` makes it, then greedy decoding on its KV cache."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch

from lorabench.case import Case
from lorabench.device.protocol import Device
from lorabench.measure.phases import Phases
from lorabench.model import adapter as adapters
from lorabench.model.architecture import task_type
from lorabench.model.build import build_base
from lorabench.model.proof import Expected, expect
from lorabench.model.quantization import keep_unpacked
from lorabench.workload.inputs import attention_mask, feature_inputs, known_padding, token_ids

FEW_TOKENS = 4
"""Decoded in a shortened step."""
UNFIT = (
    "bitsandbytes was kept from repacking 4-bit weights for this CPU: "
    "their rows are no multiple of 32, or hold no whole blocks, and inference would have failed"
)


class Inference:
    """Base, unmerged or merged; every arm of a seed has the same base weights and the same non-zero adapter."""

    # The first run makes the libraries' workspaces.
    unsteady_steps = 1
    optimizer = None

    def __init__(self, case: Case, device: Device, trust_remote_code: bool = False) -> None:
        self.case = case
        self._device = device
        self._trust_remote_code = trust_remote_code
        self._new_tokens = case.new_tokens
        self._kept_unpacked = False
        self.model: Any = None
        self.expected: Expected | None = None

    def build(self, phases: Phases) -> None:
        case = self.case
        with phases("load"):
            model = build_base(case, self._device.torch_device, trust_remote_code=self._trust_remote_code)
        self.expected = expect(model, case)
        self._kept_unpacked = keep_unpacked(model, only_unfit=True)
        if case.kbit_preparation:
            with phases("prepare"):
                model = adapters.prepare(model, case)
        if case.adapter is not None and case.adapter_state != "base":
            with phases("attach"):
                model = adapters.attach(model, case)
                adapters.randomize_adapter(model, case.seed)
            if case.adapter_state == "merged":
                with phases("merge"):
                    model = adapters.merge(model)
        self.model = model.eval()

    def start(self) -> None:
        device, config = self._device.torch_device, self.model.config
        # An encoder has a prefill and no decode steps.
        self._decodes = task_type(self.case, config) in ("CAUSAL_LM", "SEQ_2_SEQ_LM")
        self._accepted = set(inspect.signature(self._forward_owner().forward).parameters)
        self._ids = token_ids(self.case, config, device, padding_side="left")
        self._for_features = feature_inputs(self.case, config, self._ids)
        self._mask = attention_mask(self.case, device, side="left")

    @torch.no_grad()
    def step(self, phases: Phases) -> None:
        """A prefill, and decoding on its cache. The host waits after each, as one does who reads the tokens.

        Without the wait the host would run ahead while the GPU is busy with a long prompt, and the launches of the
        first decode steps, or after a long decode those of the next prefill, would cost nothing.
        """
        with phases("prefill"):
            out, mask = self._prefill(), self._mask
        self._device.synchronize()
        if not self._decodes:
            return
        with phases("decode"):
            for _ in range(self._new_tokens):
                if mask is not None and not self.model.config.is_encoder_decoder:
                    mask = torch.cat([mask, mask.new_ones(mask.shape[0], 1)], dim=-1)
                out = self._next(out, mask)
        self._device.synchronize()

    def begin_timing(self) -> None:
        """Steps all yield the same: nothing is kept."""

    def observations(self) -> dict[str, Any]:
        return {"warnings": [UNFIT]} if self._kept_unpacked else {}

    def latency(self, samples_s: Mapping[str, list[float]]) -> dict[str, list[float]]:
        """Seconds of ``prefill``, and of ``decode`` for one token of each sequence (the mean over ``new_tokens``)."""
        latency = {"prefill": list(samples_s["prefill"])}
        if "decode" in samples_s:
            latency["decode"] = [seconds / self._new_tokens for seconds in samples_s["decode"]]
        return latency

    @contextmanager
    def shortened(self) -> Iterator[None]:
        """Decode a few tokens. Their attention reads a shorter cache than the later ones' does."""
        self._new_tokens = min(FEW_TOKENS, self.case.new_tokens)
        try:
            yield
        finally:
            self._new_tokens = self.case.new_tokens

    def tokens_per_s(self, latency: Mapping[str, list[float]]) -> float | None:
        """New tokens a second of all sequences while decoding; of an encoder, the prompt's tokens a second."""
        if "decode" in latency:
            return self.case.batch_size / median(latency["decode"])
        samples = latency.get("prefill")
        return self.case.batch_size * self.case.sequence_length / median(samples) if samples else None

    def logits(self) -> torch.Tensor:
        """The prefill's logits for the last position, fp32 [batch_size, vocabulary], on the host.

        An encoder without a head gives its last hidden state instead, [batch_size, hidden].
        """
        with torch.no_grad():
            out = self._prefill()
        values = out.logits if "logits" in out else out.last_hidden_state
        last: torch.Tensor = values[:, -1] if values.dim() == 3 else values
        return last.float().cpu()

    def _forward_owner(self) -> Any:
        """The transformers model beneath PEFT's wrapper, whose signature says what forward takes."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    def _call(self, mask: torch.Tensor | None, positions: torch.Tensor | None, **inputs: Any) -> Any:
        if mask is not None:
            inputs["attention_mask"] = mask
            if positions is not None and "position_ids" in self._accepted:
                inputs["position_ids"] = positions
        if "logits_to_keep" in self._accepted:
            inputs["logits_to_keep"] = 1
        with known_padding(self.case, self._device):
            return self.model(**inputs)

    def _prefill(self) -> Any:
        if not self._decodes:
            return self._call(self._mask, None, input_ids=self._ids, **self._for_features)
        if self.model.config.is_encoder_decoder:
            start = torch.full_like(self._ids[:, :1], self.model.config.decoder_start_token_id)
            return self._call(self._mask, None, input_ids=self._ids, decoder_input_ids=start, use_cache=True)
        # As generate does it: positions count real tokens only.
        positions = None if self._mask is None else (self._mask.cumsum(-1) - 1).clamp(min=0)
        return self._call(self._mask, positions, input_ids=self._ids, use_cache=True)

    def _next(self, out: Any, mask: torch.Tensor | None) -> Any:
        """One greedy step on the cache of ``out``; ``mask`` covers the new token too."""
        token = out.logits[:, -1:].argmax(-1)
        cache = out.past_key_values
        if self.model.config.is_encoder_decoder:
            encoded = (out.encoder_last_hidden_state,)
            return self._call(
                mask, None, encoder_outputs=encoded, decoder_input_ids=token, past_key_values=cache, use_cache=True
            )
        positions = None if mask is None else mask.sum(-1, keepdim=True) - 1
        return self._call(mask, positions, input_ids=token, past_key_values=cache, use_cache=True)
