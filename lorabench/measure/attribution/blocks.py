"""What a device's allocator says of storages, the same questions for each device."""

from __future__ import annotations

from typing import Protocol

import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from lorabench.device.protocol import Device
from lorabench.device.storages import StorageMode, StorageSink
from lorabench.measure.attribution.cuda_blocks import CudaBlocks
from lorabench.measure.attribution.held import HeldBlock


class Blocks(Protocol):
    """How one device's memory is read while a step is followed."""

    @property
    def can_capture(self) -> bool:
        """Whether blocks can be listed, which costs too much to do after every operator."""

    def held_bytes(self, storage: torch.UntypedStorage) -> int | None:
        """What the storage takes of the device's memory; None where it lies elsewhere."""

    def address(self, storage: torch.UntypedStorage) -> int:
        """Where it lies; 0 where that tells nothing."""

    def before_operator(self) -> None: ...

    def after_operator(self) -> tuple[int, int] | None:
        """Bytes allocated now, and those that the operator took and gave back; None where nothing counts them."""

    def begin_capture(self) -> None:
        """Before the operator at whose highest moment :meth:`end_capture` lists the blocks."""

    def end_capture(self) -> list[HeldBlock]: ...

    def workspace_bytes(self) -> int:
        """What libraries keep outside of storages, where that is known without listing blocks."""

    def take_workspaces(self) -> frozenset[int]:
        """Free the libraries' workspaces, and say where they lay. They come back when they are needed."""


class PlainBlocks:
    """Storages on a device without an allocator of its own: the CPU."""

    can_capture = False

    def held_bytes(self, storage: torch.UntypedStorage) -> int:
        return storage.nbytes()

    def address(self, storage: torch.UntypedStorage) -> int:
        return 0

    def before_operator(self) -> None:
        """Nothing counts here."""

    def after_operator(self) -> None:
        return None

    def begin_capture(self) -> None:
        raise RuntimeError("no blocks to list")

    def end_capture(self) -> list[HeldBlock]:
        raise RuntimeError("no blocks to list")

    def workspace_bytes(self) -> int:
        return 0

    def take_workspaces(self) -> frozenset[int]:
        return frozenset()


class ModelledBlocks(PlainBlocks):
    """The blocks of a modelled allocator. Must be made in the device's session, before anything is allocated in it."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._sizes = _Sizes(device)
        [self._mode] = [mode for mode in _get_current_dispatch_mode_stack() if isinstance(mode, StorageMode)]
        self._mode.pass_through(self._sizes.around)
        self._before_bytes = 0

    def held_bytes(self, storage: torch.UntypedStorage) -> int | None:  # type: ignore[override]
        storage_id = self._mode.id_of(storage)
        return None if storage_id is None else self._sizes.bytes.get(storage_id)

    def before_operator(self) -> None:
        self._device.reset_peak()
        self._before_bytes = self._device.allocated_bytes()

    def after_operator(self) -> tuple[int, int]:  # type: ignore[override]
        now_bytes = self._device.allocated_bytes()
        return now_bytes, self._device.peak_allocated_bytes() - max(self._before_bytes, now_bytes)

    def workspace_bytes(self) -> int:
        """All that the model allocates without a storage are temporaries, which are gone, and workspaces."""
        return self._device.allocated_bytes() - sum(self._sizes.bytes.values())


class _Sizes:
    """Stands before a sink and notes by how much each storage raises what is allocated: its block's size."""

    def __init__(self, device: Device) -> None:
        self.bytes: dict[int, int] = {}
        self._device = device
        self._sink: StorageSink

    def around(self, sink: StorageSink) -> StorageSink:
        self._sink = sink
        return self

    def on_alloc(self, nbytes: int, storage_id: int) -> None:
        before_bytes = self._device.allocated_bytes()
        self._sink.on_alloc(nbytes, storage_id)
        self.bytes[storage_id] = self._device.allocated_bytes() - before_bytes

    def on_free(self, storage_id: int) -> None:
        self._sink.on_free(storage_id)
        del self.bytes[storage_id]


def blocks_of(device: Device) -> Blocks:
    """How to read ``device``; to be called in its session, before anything is allocated."""
    if device.type == "fake":
        return ModelledBlocks(device)
    if device.type == "cuda":
        return CudaBlocks(device.torch_device)
    return PlainBlocks()
