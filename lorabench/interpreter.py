"""Which versions an interpreter runs. Standard library only: the server tells them of a foreign interpreter."""

from __future__ import annotations

import importlib.util
import platform
import re
import sys
from importlib import metadata
from pathlib import Path
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
        return {"versions": {**versions, **torch_build()}, "torch_threads": None}
    # More exact than the metadata: it names the build (+cpu, +cu130).
    versions["torch"] = str(torch.__version__)
    if torch.version.cuda is not None:
        versions["cuda"] = torch.version.cuda
    return {"versions": versions, "torch_threads": torch.get_num_threads()}


def torch_build() -> dict[str, str]:
    """``torch``, its version with the build, and ``cuda``, the version that it was built for; what is not known is out.

    Read from torch's version file: an import takes seconds.
    """
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return {}
    try:
        text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    except OSError:
        return {}
    found = re.findall(r"^(__version__|cuda)\b[^=\n]*=\s*['\"]([^'\"]+)", text, re.MULTILINE)
    return {"torch" if name == "__version__" else name: version for name, version in found}
