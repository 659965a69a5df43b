"""Real text that every machine has: the docstrings of the standard library, for claims on learning."""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import torch

from lorabench.case import Case
from lorabench.errors import InputError
from lorabench.model.tokenizer import load_tokenizer


def docstrings() -> Iterator[str]:
    """Docstrings of 200 characters and more of the standard library's top-level modules, files in alphabetical order.

    Parsed, never imported: some modules act when imported.
    """
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                text = ast.get_docstring(node)
                if text and len(text) >= 200:
                    yield text


def text_ids(case: Case) -> torch.Tensor:
    """Ids of shape [batch_size, sequence_length], int64, on the CPU: a window of the text that the seed chooses.

    Raises InputError for random weights, which have no tokenizer and could learn nothing from text.
    """
    if case.weights != "pretrained":
        raise InputError("data: text needs weights: pretrained; random weights come without a tokenizer")
    tokenizer = load_tokenizer(case)
    needed = case.batch_size * case.sequence_length
    ids: list[int] = []
    for text in docstrings():
        ids.extend(tokenizer(text, add_special_tokens=False)["input_ids"])
        if len(ids) >= needed * (case.seed + 1):
            break
    if len(ids) < needed:
        raise InputError(f"data: text has {len(ids)} tokens, fewer than batch_size x sequence_length = {needed}")
    start = (case.seed * needed) % (len(ids) - needed + 1)
    return torch.tensor(ids[start : start + needed]).view(case.batch_size, case.sequence_length)
