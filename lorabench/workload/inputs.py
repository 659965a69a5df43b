"""The token ids that a workload runs on. Made on the device, from the case's seed alone."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

from lorabench.case import Case
from lorabench.device.padding import unpadded
from lorabench.device.protocol import Device
from lorabench.model.architecture import task_type
from lorabench.workload.text import text_ids

Side = Literal["left", "right"]

IGNORED_LABEL = -100
"""Label of a position that the loss leaves out; the default ``ignore_index`` of torch's cross entropy."""


def token_ids(case: Case, config: Any, device: torch.device, padding_side: Side) -> torch.Tensor:
    """Ids of shape [batch_size, sequence_length], int64, on ``device``; equal for equal seeds, vocabularies and shapes.

    Every position holds a token; :func:`attention_mask` says which of them count. An encoder-decoder that classifies
    reads its answer at the end-of-sequence token and refuses rows without one: there the last real token is that.
    """
    vocabulary = config.get_text_config().vocab_size
    if case.data == "text" and case.task == "train":
        # A copy on every device: what computes nothing counts as memory of its own what is made there.
        ids = text_ids(case).to(device, copy=True)
    else:
        generator = torch.Generator(device).manual_seed(case.seed)
        ids = torch.randint(vocabulary, (case.batch_size, case.sequence_length), generator=generator, device=device)
    if config.is_encoder_decoder and task_type(case, config) == "SEQ_CLS":
        end = config.eos_token_id
        ids = ids.masked_fill(ids == end, (end + 1) % vocabulary)
        ids[:, -1 if padding_side == "left" else -1 - padded_positions(case)] = end
    return ids


def feature_inputs(case: Case, config: Any, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a bare encoder-decoder needs beside ``input_ids``: the same tokens for its decoder. Empty for all others."""
    is_bare = task_type(case, config) == "FEATURE_EXTRACTION"
    return {"decoder_input_ids": ids} if is_bare and config.is_encoder_decoder else {}


def padded_positions(case: Case) -> int:
    """Positions of each row that are padding: the share ``padding`` of the length, rounded, one real token at least."""
    return min(round(case.padding * case.sequence_length), case.sequence_length - 1)


def attention_mask(case: Case, device: torch.device, side: Side) -> torch.Tensor | None:
    """Mask of shape [batch_size, sequence_length], int64, or None without padding: the reference step passes none.

    ``side`` is where the padding stands: ``right`` in training, ``left`` in generation, as tokenizers pad for each.
    """
    padded = padded_positions(case)
    if padded == 0:
        return None
    mask = torch.ones(case.batch_size, case.sequence_length, dtype=torch.int64, device=device)
    if side == "right":
        mask[:, -padded:] = 0
    else:
        mask[:, :padded] = 0
    return mask


def known_padding(case: Case, device: Device) -> AbstractContextManager[None]:
    """Around a forward pass: tells a device that computes nothing where the case has no padding."""
    if device.computes or padded_positions(case) > 0:
        return nullcontext()
    return unpadded()


def training_inputs(case: Case, config: Any, device: torch.device) -> dict[str, torch.Tensor]:
    """Keyword arguments of the model's forward in a training step.

    Labels by task type: the ids themselves for language models (the model shifts them), a class a sequence for
    SEQ_CLS, a class a token for TOKEN_CLS, none for FEATURE_EXTRACTION.
    """
    ids = token_ids(case, config, device, padding_side="right")
    inputs = {"input_ids": ids, **feature_inputs(case, config, ids)}
    kind = task_type(case, config)
    if kind in ("CAUSAL_LM", "SEQ_2_SEQ_LM"):
        inputs["labels"] = ids
    elif kind == "SEQ_CLS":
        inputs["labels"] = ids[:, 0] % config.num_labels
    elif kind == "TOKEN_CLS":
        inputs["labels"] = ids % config.num_labels
    mask = attention_mask(case, device, side="right")
    if mask is not None:
        inputs["attention_mask"] = mask
        if "labels" in inputs and inputs["labels"].shape == ids.shape:
            inputs["labels"] = inputs["labels"].masked_fill(mask == 0, IGNORED_LABEL)
    return inputs
