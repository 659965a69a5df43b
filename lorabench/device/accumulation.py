"""How autograd's engine adds up the gradients of a tensor that was used more than once.

On CUDA it adds in place, where it holds the last reference to the first gradient (``accumulate`` and
``can_accumulate_inplace`` in torch/csrc/autograd/input_buffer.cpp). It never does so with fake tensors, which are a
subclass: there the sum is a new tensor, alive beside both.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import graph

_REFERENCES = 2
"""To a storage that one tensor alone has: that tensor's, and the one of the Python object that is asked."""
_DISPATCH = "__torch_dispatch__"


def added_in_place(func: Any, args: Sequence[Any]) -> Tensor | None:
    """The gradient that the engine adds another one to in place; None if this call is no such sum.

    To be called from a mode's ``__torch_dispatch__``. Of what runs in a backward pass, recomputed layers have gradients
    enabled, and a node that is written in Python calls from a frame of its own. A formula of torch's own that adds two
    tensors of one shape would be taken for the engine: none was, in the processes whose history is known (tests/h100).
    """
    if func is not torch.ops.aten.add.Tensor or torch._C._current_graph_task_id() == -1 or torch.is_grad_enabled():
        return None
    first, second = args[0], args[1]
    if not isinstance(second, Tensor) or first.shape != second.shape or first.dtype != second.dtype:
        return None
    storage = first.untyped_storage()
    if torch._C._storage_Use_Count(storage._cdata) > _REFERENCES or storage.nbytes() != first.nbytes:
        return None
    started_with = _gradients_of_the_calling_engine()
    # What a backward pass was started with, its caller holds too: reentrant checkpointing starts one in each layer.
    return None if started_with is None or any(first is gradient for gradient in started_with) else first


def _gradients_of_the_calling_engine() -> Sequence[Tensor | None] | None:
    frame = sys._getframe(2)
    while frame.f_code.co_name == _DISPATCH and frame.f_back is not None:
        frame = frame.f_back
    if frame.f_code is not graph._engine_run_backward.__code__:
        return None
    gradients: Sequence[Tensor | None] = frame.f_locals["args"][0]
    return gradients
