"""In whose forward pass something is made, and whose nodes the backward pass runs.

Forward: hooks on every module keep a stack. Backward: each autograd node has a sequence number, which rises with every
node that a thread makes; the hooks note it whenever the stack changes, so that a node's number tells in which module
it was made. Numbers are a thread's own. Backward on CUDA runs in a thread of autograd's engine, and there reentrant
checkpointing makes nodes of its own, which a nested run of the engine executes.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from lorabench.measure.attribution.lives import Owner

_NOBODY = Owner("")


class Owners:
    """Follows a model's calls, inside of :meth:`watching`.

    Args:
        model: what the step calls; PEFT's wrapper or the bare model.
        on_output: given what the transformers model returns, each time that it does.
        on_recompute: called as an outermost module is entered in the backward pass, which is a recomputed forward
            pass; what it returns is called once that one has ended, early or not, at the next :meth:`settle`.
    """

    def __init__(
        self,
        model: nn.Module,
        on_output: Callable[[Any], None],
        on_recompute: Callable[[], Callable[[], None]],
    ) -> None:
        self._names = {module: name for name, module in model.named_modules()}
        self._root, self._body, self._head = _parts(model)
        self._on_output = on_output
        self._on_recompute = on_recompute
        self._recomputed: Callable[[], None] | None = None
        self._has_recomputed = False
        self._stack: list[nn.Module] = []
        self._in_tail = False
        self._forward_thread = threading.get_ident()
        self._outer_task: int | None = None
        # For each thread, sequence numbers in rising order, and who owns nodes from there on.
        self._turns: dict[int, tuple[list[int], list[Owner]]] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        with ExitStack() as stack:
            for module in self._names:
                stack.callback(module.register_forward_pre_hook(self._enter).remove)
                # Early stop of non-reentrant checkpointing leaves modules by an exception.
                stack.callback(module.register_forward_hook(self._leave, always_call=True).remove)
            yield

    def begin_phase(self) -> None:
        """A phase's backward pass, if it has one, is a graph task of its own."""
        self._outer_task = None

    def end_tail(self) -> None:
        """The backward pass is over: what comes now, the optimizer's temporaries say, is no loss's."""
        self._in_tail = False

    def settle(self) -> None:
        """To be called before each operator: only then has an early stop's exception let go of what frames held."""
        if self._has_recomputed and self._recomputed is not None:
            self._recomputed()
            self._recomputed, self._has_recomputed = None, False

    def current(self) -> Owner:
        """Who makes what is made now."""
        node = torch._C._current_autograd_node()
        if self._stack:
            name = self._names[self._stack[-1]]
            return Owner(name, is_tail=self._in_tail and node is None)
        if node is None:
            return Owner("", self._in_tail)
        return self._owner_of(node._sequence_nr())

    def _owner_of(self, number: int) -> Owner:
        task = torch._C._current_graph_task_id()
        if self._outer_task is None:
            self._outer_task = task
        thread = self._forward_thread if task == self._outer_task else threading.get_ident()
        numbers, owners = self._turns.get(thread, ([], []))
        place = bisect_right(numbers, number)
        return owners[place - 1] if place else _NOBODY

    def _enter(self, module: nn.Module, args: Any) -> None:
        in_backward = torch._C._current_autograd_node() is not None
        if in_backward and not self._stack:
            self.settle()
            self._recomputed = self._on_recompute()
        if not in_backward and module is self._root:
            self._in_tail = False
        if not in_backward and module is self._head:
            self._in_tail = True
        self._stack.append(module)
        self._note(in_backward)

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        if module not in self._stack:
            return
        while self._stack.pop() is not module:
            pass
        in_backward = torch._C._current_autograd_node() is not None
        self._has_recomputed = in_backward and not self._stack
        if not in_backward and module is self._body:
            self._in_tail = True
        if not in_backward and module is self._root:
            self._on_output(output)
        self._note(in_backward)

    def _note(self, in_backward: bool) -> None:
        module = self._stack[-1] if self._stack else None
        # In the backward pass the head's own product yields the gradient of its input, which is no logits' any more.
        is_tail = self._in_tail and not in_backward and module is not self._head
        numbers, owners = self._turns.setdefault(threading.get_ident(), ([], []))
        numbers.append(torch._C._autograd._get_sequence_nr())
        owners.append(Owner("" if module is None else self._names[module], is_tail))


def _parts(model: Any) -> tuple[nn.Module, nn.Module | None, nn.Module | None]:
    """The transformers model under PEFT's wrapper, its body, and its output head.

    The tail begins where the body ends, or, in a model that has none under its ``base_model_prefix`` (T5), where the
    head begins. A bare model is all body: what comes after it is the loss.
    """
    root = model.get_base_model() if hasattr(model, "get_base_model") else model
    prefix = getattr(root, "base_model_prefix", "")
    body = getattr(root, prefix, None) if prefix else None
    find_head = getattr(root, "get_output_embeddings", None)
    try:
        head = find_head() if find_head is not None else None
    except NotImplementedError:
        head = None
    if body is None and head is None:
        body = root
    return root, body, head if isinstance(head, nn.Module) else None
