"""The seam between what is measured and where it runs.

Workloads are written once against :class:`Device`. ``cuda`` and ``cpu`` run them for real; ``fake`` runs the same
code on fake tensors and answers with the bytes that a GPU would have used.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import torch


class Device(Protocol):
    """The fewest questions that workloads and measurements ask of a device. All byte counts are of this process."""

    @property
    def type(self) -> Literal["cuda", "cpu", "fake"]: ...

    @property
    def name(self) -> str:
        """The hardware's own name, as records carry it."""

    @property
    def total_bytes(self) -> int:
        """The memory that the device has: the card's, or the host's for ``cpu``."""

    @property
    def torch_device(self) -> torch.device:
        """Where tensors are made. ``cpu`` for the fake device: a CPU-only torch cannot make fake CUDA tensors."""

    @property
    def computes(self) -> bool:
        """False where tensors hold no values: then there is no latency, no output and no gradient to look at."""

    def session(self) -> AbstractContextManager[None]:
        """Surrounds all that is done on the device, from building on. (fake: its tensor mode.)"""

    def counting(self) -> AbstractContextManager[None]:
        """Within it, the byte counters are right. Building and the memory pass run inside, timed steps outside.

        CUDA's allocator always counts, so there it does nothing; cpu follows storages in a dispatch mode, and refuses
        (RuntimeError) to be entered twice in a session and to have its counters read outside. ``fake`` counts from the
        start of the session.
        """

    def allocated_bytes(self) -> int:
        """Bytes allocated now."""

    def peak_allocated_bytes(self) -> int:
        """Highest ``allocated_bytes`` since :meth:`reset_peak`."""

    def peak_reserved_bytes(self) -> int | None:
        """Highest bytes that the caching allocator held since :meth:`reset_peak`; None without such an allocator."""

    def device_used_bytes(self) -> int | None:
        """Bytes that the driver sees this process hold on the device; None where there is no driver."""

    @property
    def device_used_of(self) -> Literal["process", "device"] | None:
        """What the last ``device_used_bytes`` counted: this process, or all that the device uses more than before."""

    def reset_peak(self) -> None: ...

    def settle(self) -> None:
        """Collect garbage and empty the allocator's cache, so that what is left is what is held."""

    def drop_workspaces(self) -> None:
        """Free what libraries keep from call to call (cuBLAS's workspaces); it is back as soon as it is needed."""

    def mark(self) -> Any:
        """A point in time on the device's own clock (a recorded event on CUDA). Costs microseconds, never waits."""

    def elapsed_s(self, marks: Sequence[Any]) -> list[float]:
        """Seconds between neighbouring marks, one fewer than ``marks``. Synchronises once."""

    def synchronize(self) -> None: ...
