"""A device that computes nothing and answers with the bytes that a GPU would use.

Tensors are fake: shapes and storages without memory. What operators create and free goes to a model of CUDA's caching
allocator, with what CUDA's kernels and libraries take on top (:mod:`lorabench.device.audit`).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, Literal, NoReturn

import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from lorabench.catalog import DEFAULT_CARD, Card
from lorabench.device.accumulation import added_in_place
from lorabench.device.allocator import CachingAllocator
from lorabench.device.attention_audit import NOT_HELD
from lorabench.device.audit import BORN, TEMPORARIES
from lorabench.device.cuda_path import as_on_cuda
from lorabench.device.dense_kernels import KERNELS
from lorabench.device.fake_quantized.kernels import stand_in
from lorabench.device.kernels import Temporaries
from lorabench.device.outcomes import Outcomes
from lorabench.device.predicted_card import predicting_for
from lorabench.device.storages import StorageMode
from lorabench.device.workspaces import CUBLAS_OPERATORS, Workspaces
from lorabench.errors import DeviceError


class FakeDevice:
    """Predicts the memory of a card, without one. Nothing holds values: no latency, no outputs, no gradients to read.

    Within :meth:`session` every operator counts, inside of :meth:`counting` and outside.

    Args:
        card: what is predicted for; an H100 by default.
        capacity_bytes: what the allocator's segments may come to; None for no limit.

    Raises (from operators within the session):
        DeviceError: an operator whose CUDA kernel was not audited, or code that reads a tensor's value.
        OutOfDeviceMemoryError: the capacity is too small.
    """

    type: Literal["fake"] = "fake"
    torch_device = torch.device("cpu")
    computes = False
    device_used_of = None

    def __init__(self, card: Card = DEFAULT_CARD, capacity_bytes: int | None = None) -> None:
        self.card = card
        self.capacity_bytes = capacity_bytes
        self.name = card.product
        self.total_bytes = card.total_bytes
        self._allocator = CachingAllocator(capacity_bytes)
        self._workspaces: Workspaces | None = None

    @contextmanager
    def session(self) -> Iterator[None]:
        self._allocator = CachingAllocator(self.capacity_bytes)
        self._workspaces = Workspaces(self._allocator, self.card.compute_capability)
        with ExitStack() as stack:
            stack.enter_context(predicting_for(self.card))
            stack.enter_context(as_on_cuda(self.card))
            fake_mode = stack.enter_context(_OneFakeMode())
            stack.enter_context(FakeCudaMode(self._allocator, fake_mode, self._workspaces))
            yield

    def counting(self) -> AbstractContextManager[None]:
        return nullcontext()

    def allocated_bytes(self) -> int:
        return self._allocator.allocated_bytes

    def peak_allocated_bytes(self) -> int:
        return self._allocator.peak_allocated_bytes

    def peak_reserved_bytes(self) -> int:
        return self._allocator.peak_reserved_bytes

    def highest_reserved_bytes(self) -> int:
        """The most bytes that the allocator held in the session, loading included, whatever was reset."""
        return self._allocator.highest_reserved_bytes

    def alloc_retries(self) -> int:
        """How often the allocator gave its cache back for want of room."""
        return self._allocator.alloc_retries

    def device_used_bytes(self) -> None:
        """What the CUDA context and its libraries take beyond the allocator is not predicted."""

    def reset_peak(self) -> None:
        self._allocator.reset_peaks()

    def settle(self) -> None:
        gc.collect()
        self._allocator.empty_cache()

    def drop_workspaces(self) -> None:
        if self._workspaces is not None:
            self._workspaces.drop()

    def mark(self) -> NoReturn:
        """Raises RuntimeError: nothing runs, so there is no time."""
        raise RuntimeError("the fake device has no clock; ask computes before timing")

    def elapsed_s(self, marks: Sequence[Any]) -> list[float]:
        return []

    def synchronize(self) -> None:
        """Nothing to wait for."""


class _OneFakeMode(FakeTensorMode):
    """Tensors of two modes cannot meet, and a tensor that is copied deeply would copy its mode."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _OneFakeMode:
        return self


class FakeCudaMode(StorageMode):
    """Feeds storages to the allocator's model, with the temporaries and workspaces of CUDA's kernels."""

    def __init__(self, allocator: CachingAllocator, fake_mode: FakeTensorMode, workspaces: Workspaces) -> None:
        super().__init__(_AllocatorSink(allocator))
        self._allocator = allocator
        self._outcomes = Outcomes(fake_mode)
        self._workspaces = workspaces
        self._audited: dict[Any, tuple[str, Temporaries]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.prim.device.default:
            # C++ asks a fake tensor for its device by an operator, more often than all others together.
            return args[0].fake_device
        if func._schema.name not in TEMPORARIES and (kernel := KERNELS.get(func) or stand_in(func)) is not None:
            with self:
                return kernel(*args, **kwargs) if kwargs else kernel(*args)
        if (total := added_in_place(func, args)) is not None:
            return total
        name, temporaries = self._audited.get(func) or self._audit(func)
        try:
            result = self._outcomes.call(func, args, kwargs)
        except DataDependentOutputException as error:
            raise DeviceError(f"{func} reads a tensor's value, and the fake device's tensors hold none") from error
        if name == "aten::lift_fresh":
            # Numbers that Python turned into a tensor, the optimizer's step counters among them: they lie on the host.
            self.ignore(result)
            return result
        if name in NOT_HELD:
            for index in NOT_HELD[name](args):
                self.ignore(result[index])
        self.see([result[index] for index in BORN[name]] if name in BORN else result)
        if name in CUBLAS_OPERATORS:
            # After the product's own memory, as memory snapshots of an H100 show it.
            self._workspaces.take_for(name, args)
        for address in [self._allocator.allocate(nbytes) for nbytes in temporaries(args)]:
            self._allocator.free(address)
        return result

    def _audit(self, func: Any) -> tuple[str, Temporaries]:
        name = func._schema.name
        if name not in TEMPORARIES:
            raise DeviceError(
                f"{func} was not audited for the memory that its CUDA kernel takes, so it cannot be predicted yet"
            )
        self._audited[func] = (name, TEMPORARIES[name])
        return self._audited[func]


class _AllocatorSink:
    def __init__(self, allocator: CachingAllocator) -> None:
        self._allocator = allocator
        self._addresses: dict[int, int] = {}

    def on_alloc(self, nbytes: int, storage_id: int) -> None:
        self._addresses[storage_id] = self._allocator.allocate(nbytes)

    def on_free(self, storage_id: int) -> None:
        self._allocator.free(self._addresses.pop(storage_id))
