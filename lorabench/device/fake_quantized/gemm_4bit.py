"""Which of its two ways bitsandbytes takes for a 4-bit product on CUDA.

The custom kernel reads packed weights as they are; the other way dequantizes the whole weight first, which is a
temporary of its size in 16 bits.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

from lorabench.device.predicted_card import predicted_card
from lorabench.errors import DeviceError

_CHOICE = "_gemm_4bit_use_custom_cuda"
_FLOOR = "_GEMM_4BIT_CUSTOM_FLOOR_M"
_LIMIT = "_gemm_4bit_custom_max_m"


def takes_custom_kernel(dtype: torch.dtype, rows: int, outgoing: int, ingoing: int) -> bool:
    """Whether a product of [rows, ingoing] with a weight of [outgoing, ingoing] runs on packed weights.

    For an ``ingoing`` that holds whole blocks; others never do.

    Raises:
        DeviceError: the installed bitsandbytes decides it in another way than this was written for.
    """
    card = predicted_card()
    choice, limit = _library_choice((card.multiprocessors, *card.compute_capability))
    return rows <= limit and choice(0, dtype, rows, outgoing, ingoing)


@cache
def _library_choice(card: tuple[int, int, int]) -> tuple[Callable[..., bool], int]:
    """The library's own function for the choice, and the number of rows above which it is not asked.

    Its module (bitsandbytes/backends/cuda/ops.py) cannot be imported without CUDA, so the function is compiled alone.
    """
    package = importlib.util.find_spec("bitsandbytes")
    assert package is not None, "the kernels import it"
    assert package.origin is not None
    text = (Path(package.origin).parent / "backends" / "cuda" / "ops.py").read_text(encoding="utf-8")
    wanted: list[ast.stmt] = []
    for node in _statements(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.name == _CHOICE:
            node.decorator_list = []
            wanted.append(node)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            # The branch for CUDA comes before the one for ROCm: the first assignment holds.
            name = node.targets[0].id
            if name in (_FLOOR, _LIMIT) and not any(_assigns(other, name) for other in wanted):
                wanted.append(node)
    names: dict[str, Any] = {"torch": torch, "_gpu_dispatch_props": lambda _: card}
    exec(compile(ast.Module(wanted, []), _CHOICE, "exec"), names)
    try:
        return cache(names[_CHOICE]), names[_LIMIT]
    except KeyError as error:
        raise DeviceError(
            f"this version of bitsandbytes has no {error.args[0]}: how it multiplies 4-bit weights cannot be predicted"
        ) from error


def _statements(module: ast.Module) -> list[ast.stmt]:
    """Those of the module and, one level down, of its conditions."""
    found: list[ast.stmt] = []
    for node in module.body:
        found.extend([*node.body, *node.orelse] if isinstance(node, ast.If) else [node])
    return found


def _assigns(node: ast.stmt, name: str) -> bool:
    return isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name
