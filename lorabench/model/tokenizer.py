"""The tokenizer that belongs to a case's pretrained weights."""

from __future__ import annotations

from typing import Any

from transformers import AutoTokenizer

from lorabench.case import Case
from lorabench.model.architecture import gguf_folder_and_file, one_line
from lorabench.model.packaged import read_tokenizer


def load_tokenizer(case: Case, *, trust_remote_code: bool = False) -> Any:
    """The transformers tokenizer of a packaged preset, a local path or a hub id.

    Raises:
        InputError: there is none, or it cannot be read; one line.
    """
    packaged = gguf_folder_and_file(case)
    with one_line(f"tokenizer of {case.model}"):
        if packaged is not None:
            return read_tokenizer(*packaged)
        return AutoTokenizer.from_pretrained(case.model, trust_remote_code=trust_remote_code)
