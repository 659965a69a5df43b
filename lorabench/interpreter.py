"""Which versions an interpreter runs. Standard library only: the server tells them of a foreign interpreter."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from typing import Any

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "numpy", "tokenizers", "triton")
"""Whose versions can change what is measured."""


def interpreter_facts() -> dict[str, Any]:
    """``versions`` of this interpreter and its libraries, and ``torch_threads``: None unless torch is loaded.

    Runs no tensor operation.
    """
    versions = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    torch = sys.modules.get("torch")
    if torch is None:
        return {"versions": versions, "torch_threads": None}
    # More exact than the metadata: it names the build (+cpu, +cu130).
    versions["torch"] = str(torch.__version__)
    if torch.version.cuda is not None:
        versions["cuda"] = torch.version.cuda
    return {"versions": versions, "torch_threads": torch.get_num_threads()}
