"""Follows bytes: a dispatch mode that sees each storage born and hears it die.

A tensor's bytes belong to its untyped storage, which views, in-place results and aliases share. The mode looks at
every operator's outputs, reports a storage once, when it first sees it, and once more when it dies.

Why the death is exact: PyTorch keeps one Python object for a storage as long as the C++ storage lives, whoever holds
it (``PyObject preservation``, c10/core/impl/PyObjectSlot.h). The object's weak reference is therefore called back when
the last tensor, view, saved tensor of autograd or C++ owner lets go, and at that moment. Seen to hold on torch 2.13
for storages held by a view, by autograd's saved tensors, and by C++ alone; the tests repeat it for the installed torch.

Where the mode reaches: it is part of ``at::ThreadLocalState``, which autograd's engine restores in its own threads, so
backward operators on CUDA, recomputed forward passes (both kinds of checkpointing), ``torch.autograd.Function`` and
custom operators are seen as the forward pass is. On the CPU backward runs in the calling thread.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode


class StorageSink(Protocol):
    """Hears of storages. Ids are never used twice; a resized storage dies and a new one is born."""

    def on_alloc(self, nbytes: int, storage_id: int) -> None: ...

    def on_free(self, storage_id: int) -> None: ...


class StorageMode(TorchDispatchMode):
    """Reports to ``sink`` the storages of every operator's outputs. Frees are reported after the mode is left, too.

    A storage that no operator made (a mapped file, ``from_numpy``) is reported by the first operator that returns a
    view of it; :meth:`track` reports what existed before. Memory that a kernel takes and returns within an operator is
    not a storage and is not seen.
    """

    def __init__(self, sink: StorageSink) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._sink = sink
        self._ids = itertools.count()
        # By the C++ address, which is the storage's identity while it lives. The weak reference must be kept: it is
        # what calls back.
        self._live: dict[int, tuple[int, int, weakref.ref[torch.UntypedStorage]]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **kwargs) if kwargs else func(*args)
        self.see(result)
        return result

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Answered yes, torch wraps every call and imports torch._dynamo, to hide the mode from torch.compile.
        return False

    def track(self, *things: nn.Module | torch.Tensor) -> None:
        """Report the storages of tensors, and of modules' parameters and buffers, that exist already."""
        for thing in things:
            if isinstance(thing, nn.Module):
                for tensor in itertools.chain(thing.parameters(), thing.buffers()):
                    self.see(tensor)
            else:
                self.see(thing)

    def see(self, result: Any) -> None:
        """Report what is new in an operator's result: a tensor, or tuples and lists of them."""
        if isinstance(result, torch.Tensor):
            # Storages on the meta device have a size and no memory.
            if not is_meta(result):
                self._see_storage(result.untyped_storage())
        elif isinstance(result, (tuple, list)):
            for item in result:
                self.see(item)

    def ignore(self, tensor: torch.Tensor) -> None:
        """Never report this tensor's storage, which must not have been seen before."""
        storage = tensor.untyped_storage()
        address = storage._cdata
        self._live[address] = (next(self._ids), storage.nbytes(), weakref.ref(storage, lambda _: self._forget(address)))

    def id_of(self, storage: torch.UntypedStorage) -> int | None:
        """The id of a live storage that was seen or ignored; None for any other."""
        known = self._live.get(storage._cdata)
        return None if known is None else known[0]

    def pass_through(self, wrap: Callable[[StorageSink], StorageSink]) -> None:
        """From now on report to what ``wrap`` makes of the sink so far."""
        self._sink = wrap(self._sink)

    def _see_storage(self, storage: torch.UntypedStorage) -> None:
        address, nbytes = storage._cdata, storage.nbytes()
        known = self._live.get(address)
        if known is not None and known[1] == nbytes:
            return
        storage_id = next(self._ids)
        # resize_ takes the new memory before it gives the old back, so the birth comes first.
        self._born(storage, nbytes, storage_id)
        self._live[address] = (storage_id, nbytes, weakref.ref(storage, lambda _: self._died(address)))
        if known is not None:
            self._sink.on_free(known[0])

    def _born(self, storage: torch.UntypedStorage, nbytes: int, storage_id: int) -> None:
        self._sink.on_alloc(nbytes, storage_id)

    def _forget(self, address: int) -> None:
        del self._live[address]

    def _died(self, address: int) -> None:
        storage_id, _, _ = self._live.pop(address)
        self._sink.on_free(storage_id)


def is_meta(tensor: torch.Tensor) -> bool:
    """``tensor.is_meta``, which asks a fake tensor by an operator that costs as much as any other."""
    device = getattr(tensor, "fake_device", None)
    return tensor.is_meta if device is None else device.type == "meta"
