"""Base models: from a preset, a local path or a hub id, with random or pretrained weights, quantized or not."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from lorabench.case import Case
from lorabench.errors import DeviceError
from lorabench.model.architecture import auto_class, gguf_folder_and_file, one_line, resolve_config
from lorabench.model.outliers import derived_shares, measured_shares, set_shares
from lorabench.model.packaged import read_weights
from lorabench.model.quantization import quantization_config, quantizing, weight_dtype
from lorabench.model.weights import holds_values, random_weights


def build_base(case: Case, torch_device: torch.device, *, trust_remote_code: bool = False) -> PreTrainedModel:
    """The bare model of ``case`` on ``torch_device``: in train mode for training, in eval mode otherwise.

    Every way ends in transformers' own ``from_pretrained``, which decides in what order memory is allocated; random
    weights are handed to it one by one as it asks for them. Two builds with one seed have the same weights, whatever
    they are quantized to. torch's generators are seeded with ``case.seed`` on return. Under a fake tensor mode the
    parameters hold no values, pretrained or not.

    Raises:
        InputError: the model, its checkpoint or its attention cannot be had; one line.
    """
    with _quiet():
        config = resolve_config(case, trust_remote_code=trust_remote_code)
        if case.weights == "random" or not holds_values(torch.empty(0, device=torch_device)):
            model = _with_random_weights(case, config, torch_device, trust_remote_code)
        elif (packaged := gguf_folder_and_file(case)) is not None:
            model = _from_gguf(case, config, torch_device, *packaged)
        else:
            model = _from_checkpoint(case, config, torch_device, trust_remote_code)
    torch.manual_seed(case.seed)
    return model.train(case.task == "train")


def build_skeleton(case: Case, *, trust_remote_code: bool = False) -> PreTrainedModel:
    """The bare model on the meta device, before quantization: shapes, names and dtypes alone.

    Raises:
        InputError: the model or its attention cannot be had; one line.
    """
    with _quiet():
        config = resolve_config(case, trust_remote_code=trust_remote_code)
        return _skeleton(case, config, trust_remote_code).train(case.task == "train")


def _skeleton(case: Case, config: PreTrainedConfig, trust_remote_code: bool) -> PreTrainedModel:
    with one_line(f"model {case.model}"), torch.device("meta"):
        model: PreTrainedModel = auto_class(case, config).from_config(
            config,
            dtype=weight_dtype(case),
            attn_implementation=case.attention,
            trust_remote_code=trust_remote_code,
        )
    return model


def _with_random_weights(
    case: Case, config: PreTrainedConfig, torch_device: torch.device, trust_remote_code: bool
) -> PreTrainedModel:
    skeleton = _skeleton(case, config, trust_remote_code)
    weights = random_weights(skeleton, torch_device, case.seed)
    model = _load(case, type(skeleton), skeleton.config, weights, torch_device)
    if case.splits_outliers and not holds_values(next(model.parameters())):
        _tell_outliers(model, skeleton, case, trust_remote_code)
    return model


_MEASURED_LIMIT = 1_000_000_000
"""Parameters of the largest model that a prediction loads and runs to count its outliers: 4 GB in fp32."""


def _tell_outliers(model: PreTrainedModel, skeleton: PreTrainedModel, case: Case, trust_remote_code: bool) -> None:
    """Say of a model without values which share of its int8 layers' columns hold outliers."""
    if case.weights == "random":
        set_shares(model, derived_shares(skeleton, case), case.batch_size * case.sequence_length)
        return
    parameters = skeleton.num_parameters()
    if parameters > _MEASURED_LIMIT:
        raise DeviceError(
            f"int8_threshold: the outlier columns of pretrained weights are counted by running them, which is not done "
            f"for {parameters} parameters; use int8_threshold: 0 or weights: random"
        )
    # The way on CUDA is prepared for half precision; eager attention is not touched by it.
    dense_case = replace(case, quantization="fp32", attention="eager")
    with _disable_current_modes():
        dense = build_base(dense_case, torch.device("cpu"), trust_remote_code=trust_remote_code)
        shares = measured_shares(dense, case)
    set_shares(model, shares, case.sequence_length)


def _from_gguf(
    case: Case, config: PreTrainedConfig, torch_device: torch.device, folder: str, file: str
) -> PreTrainedModel:
    with one_line(f"model {case.model}"):
        model_class, weights = read_weights(auto_class(case, config), config, folder, file, weight_dtype(case))
    return _load(case, model_class, config, weights, torch_device)


def _from_checkpoint(
    case: Case, config: PreTrainedConfig, torch_device: torch.device, trust_remote_code: bool
) -> PreTrainedModel:
    with one_line(f"model {case.model}"), quantizing():
        model: PreTrainedModel = auto_class(case, config).from_pretrained(
            case.model,
            config=config,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            **_loading(case, torch_device),
        )
    return model


def _load(
    case: Case,
    model_class: type[PreTrainedModel],
    config: PreTrainedConfig,
    weights: Mapping[str, Any],
    torch_device: torch.device,
) -> PreTrainedModel:
    with one_line(f"model {case.model}"), quantizing(), _in_this_thread():
        model: PreTrainedModel = model_class.from_pretrained(
            None, config=config, state_dict=weights, **_loading(case, torch_device)
        )
    return model


def _loading(case: Case, torch_device: torch.device) -> dict[str, Any]:
    return {
        "dtype": weight_dtype(case),
        "attn_implementation": case.attention,
        "device_map": {"": torch_device},
        "quantization_config": quantization_config(case),
    }


@contextmanager
def _in_this_thread() -> Iterator[None]:
    """Keep the loader out of its thread pool: dispatch modes and the order of allocations do not reach in there."""
    name = "HF_DEACTIVATE_ASYNC_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def _quiet() -> Iterator[None]:
    """Without progress bars and warnings. The libraries stay silent afterwards: their errors are raised, not logged."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    # Each int8 layer would say in each call on CUDA that it casts its input to fp16.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
