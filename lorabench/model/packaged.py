"""Pretrained weights and a tokenizer that come in a Python package, as a GGUF file.

To read one takes seconds: its tables of tokens and of tensors' names are gone through in Python, and its weights are
dequantized on the host. So where jobs share a folder, the first one that needs the file unpacks it there for all
(:func:`unpack`). It does so in a process of its own, which leaves nothing behind in the one that measures: what is
measured in the first job is what is measured in all.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import traceback
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, suppress
from dataclasses import replace
from pathlib import Path
from types import EllipsisType
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedConfig

from lorabench.case import Case
from lorabench.errors import InputError
from lorabench.model.architecture import gguf_folder_and_file, resolve_config
from lorabench.shared_folder import shared_folder

_WEIGHTS = "weights.safetensors"
_TOKENIZER = "tokenizer"
_WITHIN_S = 300
"""It takes 10 s on a core of its own."""


def read_weights(
    auto_class: Any, config: PreTrainedConfig, folder: str, file: str, dtype: torch.dtype
) -> tuple[Any, Mapping[str, Any]]:
    """The class of the file's model, and its weights: in ``dtype``, on the host, of each parameter that is not tied.

    They are a state dict for ``from_pretrained(None, state_dict=...)``: tensors, or what reads one with ``[...]``.

    transformers does not quantize what it reads from GGUF, so the dense weights pass through the host.
    """
    # The other classes have a head that is not in the file.
    path = _unpacked(file, _WEIGHTS) if auto_class is AutoModelForCausalLM else None
    if path is None:
        return _dequantized(auto_class, config, folder, file, dtype)
    # Open as long as a weight refers to it.
    stored: Any = safe_open(path, "pt")
    weights = {name: _Stored(stored, name, dtype) for name in stored.keys()}  # noqa: SIM118 - not a mapping
    return auto_class._model_mapping[type(config)], weights


def read_tokenizer(folder: str, file: str) -> Any:
    path = _unpacked(file, _TOKENIZER)
    return _tokenizer_of(folder, file) if path is None else AutoTokenizer.from_pretrained(path)


def must_unpack(case: Case) -> bool:
    """Whether ``case`` comes in a package, jobs share a folder, and none has tried to unpack it there."""
    if case.weights != "pretrained" or shared_folder() is None:
        return False
    with suppress(InputError):  # it is told where the case is built
        packaged = gguf_folder_and_file(case)
        return packaged is not None and not _place(packaged[1]).exists()
    return False


def unpack(case: Case) -> None:
    """Put weights and tokenizer of ``case`` into the folder that jobs share; where :func:`must_unpack` says so.

    Call it before CUDA is open: who forks a process that has opened it may hang. Where it fails, or takes too long,
    every job reads the file itself.
    """
    packaged = gguf_folder_and_file(case)
    assert packaged is not None
    folder, file = packaged
    # What is named otherwise is whole.
    unfinished = _place(file) / "unfinished"
    with suppress(OSError):  # no room for a folder, or for a process
        _place(file).mkdir()
        _in_a_fork(lambda: _unpack_into(unfinished, resolve_config(replace(case, adapter=None)), folder, file))
    shutil.rmtree(unfinished, ignore_errors=True)


def _unpack_into(unfinished: Path, config: PreTrainedConfig, folder: str, file: str) -> None:
    unfinished.mkdir()
    _, weights = _dequantized(AutoModelForCausalLM, config, folder, file, torch.float32)
    save_file({name: weight.contiguous() for name, weight in weights.items()}, unfinished / _WEIGHTS)
    _tokenizer_of(folder, file).save_pretrained(unfinished / _TOKENIZER)
    for name in (_WEIGHTS, _TOKENIZER):
        (unfinished / name).rename(unfinished.with_name(name))


def _place(file: str) -> Path:
    shared = shared_folder()
    assert shared is not None
    return shared / Path(file).stem


def _unpacked(file: str, name: str) -> Path | None:
    path = None if shared_folder() is None else _place(file) / name
    return path if path is not None and path.exists() else None


class _Stored:
    """One weight of an unpacked file, read when the loader asks for it, as from a checkpoint."""

    def __init__(self, stored: Any, name: str, dtype: torch.dtype) -> None:
        self._stored, self._name, self._dtype = stored, name, dtype

    def __getitem__(self, index: EllipsisType) -> torch.Tensor:
        weight: torch.Tensor = self._stored.get_tensor(self._name)
        return weight.to(self._dtype)


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


def _tokenizer_of(folder: str, file: str) -> Any:
    return AutoTokenizer.from_pretrained(folder, gguf_file=file)


def _in_a_fork(work: Callable[[], None]) -> None:
    pid = os.fork()
    if pid == 0:
        exit_status = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(_WITHIN_S)
            # The threads that this process may have had for its operators did not come along.
            torch.set_num_threads(1)
            work()
            exit_status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(exit_status)
    os.waitpid(pid, 0)
