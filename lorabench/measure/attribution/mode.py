"""The dispatch mode that writes a step into a ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch

from lorabench.device.storages import StorageMode
from lorabench.measure.attribution.blocks import Blocks
from lorabench.measure.attribution.held import HeldBlock
from lorabench.measure.attribution.holders import Held
from lorabench.measure.attribution.lives import Ledger, Life, Moment, Owner
from lorabench.measure.attribution.owners import Owners


class AttributionMode(StorageMode):
    """Follows storages into ``ledger``.

    Args:
        capture_at: the number of the operator at whose highest moment ``blocks`` lists what it holds; its list is
            :attr:`captured`, beside the lives that were there.
        counted: whether there is a moment after each operator that can take memory; without, after that one alone.
            CUDA's counters cost a dictionary of all of them each time that they are read.
    """

    def __init__(
        self, ledger: Ledger, blocks: Blocks, owners: Owners, capture_at: int | None = None, *, counted: bool = True
    ) -> None:
        super().__init__(_Deaths(ledger))
        self.captured: list[HeldBlock] | None = None
        self._ledger = ledger
        self._blocks = blocks
        self._owners = owners
        self._capture_at = capture_at
        self._counted = counted
        self._operator = "held before"
        self._seeing: torch.Tensor | None = None

    def start(self, held: Sequence[Held]) -> None:
        """Take in what was there before the step; the first that holds a storage names it."""
        for category, module, tensor in held:
            self.see(tensor)
            life = self.life_of(tensor)
            if life is not None and life.category is None:
                life.category, life.owner = category, Owner(module)
        if self._counted:
            self._blocks.before_operator()
            self._note_moment()
        self._ledger.tick += 1

    def life_of(self, tensor: torch.Tensor) -> Life | None:
        """None for a storage that was never seen or lies elsewhere."""
        return None if tensor.is_meta else self._ledger.find(self.id_of(tensor.untyped_storage()))

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.prim.device.default:
            # C++ asks a fake tensor for its device by an operator, more often than all others together.
            fake_device = getattr(args[0], "fake_device", None)
            return func(*args) if fake_device is None else fake_device
        ledger, blocks = self._ledger, self._blocks
        self._owners.settle()
        ledger.tick += 1
        ledger.number += 1
        self._operator = func._schema.name
        is_captured = ledger.number == self._capture_at
        is_noted = is_captured or (self._counted and not _is_view(func))
        if is_captured:
            blocks.begin_capture()
        if is_noted:
            blocks.before_operator()
        result = func(*args, **kwargs) if kwargs else func(*args)
        self.see(result)
        if is_noted:
            self._note_moment()
        if is_captured:
            self.captured = blocks.end_capture()
        ledger.tick += 1
        return result

    def see(self, result: Any) -> None:
        if isinstance(result, torch.Tensor):
            self._seeing = result
        super().see(result)
        # Autograd steals a gradient that nobody else refers to, and copies any other.
        self._seeing = None

    def _note_moment(self) -> None:
        ledger = self._ledger
        allocated_bytes, temporary_bytes = self._blocks.after_operator() or (ledger.live_bytes, 0)
        ledger.moments.append(
            Moment(ledger.tick, ledger.number, self._operator, ledger.phase, allocated_bytes, temporary_bytes)
        )

    def _born(self, storage: torch.UntypedStorage, nbytes: int, storage_id: int) -> None:
        held_bytes = self._blocks.held_bytes(storage)
        if held_bytes is None:
            return
        tensor = self._seeing
        assert tensor is not None
        life = Life(
            nbytes=nbytes,
            held_bytes=held_bytes,
            address=self._blocks.address(storage),
            born=self._ledger.tick,
            phase=self._ledger.phase,
            owner=self._owners.current(),
            operator=self._operator,
            shape=tuple(tensor.shape),
            dtype=str(tensor.dtype).removeprefix("torch."),
        )
        self._ledger.add(storage_id, life)


class _Deaths:
    """Births have an owner, which the mode looks up; deaths come here."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def on_alloc(self, nbytes: int, storage_id: int) -> None:
        raise AssertionError("births go into the ledger with their owner")

    def on_free(self, storage_id: int) -> None:
        self._ledger.end(storage_id)


@cache
def _is_view(func: Any) -> bool:
    """Whether an operator returns nothing but views, and so neither takes memory nor gives any back.

    Not one that is made of others (``to``, ``contiguous``): it may copy. In inference mode such ones come whole.
    """
    returns = func._schema.returns
    is_composite = torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")
    views = all(one.alias_info is not None and not one.alias_info.is_write for one in returns)
    return bool(returns) and views and not is_composite
