"""From the name of a model to what is known about it before anything is built."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lorabench.catalog.families import FAMILIES, Family
from lorabench.catalog.presets import DIGEST_LENGTH, PRESETS, Preset
from lorabench.errors import InputError
from lorabench.wording import did_you_mean

_CONFIG_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True)
class Model:
    """What is known about the model that a case names, before anything is built.

    ``family`` and ``config`` are None for a hub id, and ``family`` for a local model of a type that is not in
    :data:`FAMILIES`; ``preset`` is None unless the name is a preset's.
    """

    digest: str
    config: Mapping[str, Any] | None = None
    family: Family | None = None
    preset: Preset | None = None


def architecture(model: str) -> str:
    """Digest of a model's architecture for a case's key.

    Of the preset's settings, or of the bytes of a local folder's ``config.json``; empty for a hub id, whose
    configuration is not known here, so that the id itself stays in the key.

    Raises:
        InputError: ``model`` is neither a preset, nor a folder with a ``config.json``, nor a hub id.
    """
    return describe(model).digest


@lru_cache(maxsize=256)
def describe(model: str) -> Model:
    """Look a model up: a preset's name, else an existing folder, else a hub id.

    Raises:
        InputError: as :func:`architecture`.
    """
    preset = PRESETS.get(model)
    if preset is not None:
        return Model(preset.digest, preset.config, preset.family, preset)
    path = Path(model)
    try:
        exists = path.exists()
    except (OSError, ValueError):  # too long, or a null byte
        exists = False
    if exists:
        return _local(path)
    if "/" not in model:
        raise InputError(
            f"unknown model {model!r}{did_you_mean(model, PRESETS)}; presets are {', '.join(PRESETS)}; "
            "a hub id contains a /, a path must exist"
        )
    parts = model.split("/")
    if len(parts) != 2 or not all(part and set(part) <= _HUB_CHARACTERS and part.strip(".") for part in parts):
        raise InputError(f"no folder {model!r}, and a hub id is OWNER/NAME in letters, digits and ._-")
    return Model(digest="")


_HUB_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def _local(folder: Path) -> Model:
    file = folder / "config.json"
    if not file.is_file():
        raise InputError(f"model {str(folder)!r} has no config.json; give the folder that save_pretrained() wrote")
    try:
        with file.open("rb") as stream:
            content = stream.read(_CONFIG_LIMIT_BYTES + 1)
        config = json.loads(content) if len(content) <= _CONFIG_LIMIT_BYTES else None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"model {str(folder)!r}: config.json cannot be read ({type(error).__name__})") from error
    if not isinstance(config, dict):
        raise InputError(f"model {str(folder)!r}: config.json must hold one JSON object of at most 1 MiB")
    model_type = config.get("model_type")
    family = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    return Model(hashlib.sha256(content).hexdigest()[:DIGEST_LENGTH], config, family)
