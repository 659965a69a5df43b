"""Remembers what operators on fake tensors return.

The layers of a model call the same operators on tensors of the same shapes, step after step. FakeTensorMode remembers
too, by all that can matter to any user of fake tensors, and most of a prediction's time went into that. Here tensors
are dense, sizes are numbers, and nothing is traced: an operator's outputs follow from its tensors' dtypes, sizes,
strides and offsets, and from its other arguments. What does not fit into that is not remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._mode_utils import no_dispatch

_UNFIT_TAGS = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape, torch.Tag.inplace_view)


@dataclass(frozen=True, slots=True)
class _Output:
    """An output: the argument of that number itself, a view of it, or a tensor of its own.

    Tensors among the arguments are numbered in their order, those in lists too.
    """

    argument: int | None
    is_argument: bool
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int | torch.SymInt
    dtype: torch.dtype
    device: torch.device


class _UnfitError(Exception):
    """The call is not to be remembered."""


class Outcomes:
    """Answers calls that were made before; all tensors are those of ``mode``."""

    def __init__(self, mode: FakeTensorMode) -> None:
        self._mode = mode
        self._known: dict[Any, tuple[type, tuple[_Output | None, ...]]] = {}
        self._fits: dict[Any, bool] = {}
        # What the constructor sets on a new tensor of each device.
        self._attributes: dict[torch.device, dict[str, Any]] = {}

    def call(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> Any:
        """What ``func`` returns: new tensors, as new storages as its own would be."""
        fits = self._fits.get(func)
        if fits is None:
            fits = self._fits[func] = func.namespace == "aten" and not set(_UNFIT_TAGS).intersection(func.tags)
        if not fits:
            return _run(func, args, kwargs)
        tensors: list[FakeTensor] = []
        try:
            key = (func, _signature(args, tensors), _signature(tuple(kwargs.items()), tensors) if kwargs else None)
            known = self._known.get(key)
        except (_UnfitError, TypeError):
            # TypeError: an argument that cannot be a key, a generator's state for one.
            return _run(func, args, kwargs)
        if known is not None:
            return self._again(known, tensors)
        result = _run(func, args, kwargs)
        described = self._describe(result, tensors)
        if described is not None:
            self._known[key] = described
        return result

    def _again(self, known: tuple[type, tuple[_Output | None, ...]], tensors: Sequence[FakeTensor]) -> Any:
        kind, outputs = known
        made = [None if output is None else self._make(output, tensors) for output in outputs]
        return kind(made) if kind in (tuple, list) else made[0]

    def _make(self, output: _Output, tensors: Sequence[FakeTensor]) -> FakeTensor:
        if output.is_argument:
            assert output.argument is not None
            return tensors[output.argument]
        with no_dispatch():
            if output.argument is None:
                elem = torch.empty_strided(output.shape, output.stride, dtype=output.dtype, device="meta")
            else:
                elem = torch.empty(0, dtype=output.dtype, device="meta")
                elem.set_(tensors[output.argument].untyped_storage(), output.offset, output.shape, output.stride)
            return self._fake(elem, output.device)

    def _fake(self, elem: Tensor, device: torch.device) -> FakeTensor:
        """As FakeTensor's constructor makes it, whose checks and properties take longer than all else here."""
        attributes = self._attributes.get(device)
        if attributes is None:
            attributes = self._attributes[device] = vars(FakeTensor(self._mode, torch.empty(0, device="meta"), device))
        made: FakeTensor = Tensor._make_subclass(
            FakeTensor, elem, False, dispatch_device=True, device_for_backend_keys=device
        )
        vars(made).update(attributes)
        return made

    def _describe(self, result: Any, tensors: Sequence[FakeTensor]) -> tuple[type, tuple[_Output | None, ...]] | None:
        outputs = result if isinstance(result, (tuple, list)) else (result,)
        try:
            return type(result), tuple(self._describe_one(output, tensors, outputs) for output in outputs)
        except _UnfitError:
            return None

    def _describe_one(self, output: Any, tensors: Sequence[FakeTensor], outputs: Sequence[Any]) -> _Output | None:
        if output is None:
            return None
        for number, tensor in enumerate(tensors):
            if output is tensor:
                return _Output(number, True, (), (), 0, output.dtype, output.fake_device)
        if type(output) is not FakeTensor or output.fake_mode is not self._mode or not _is_plain(output):
            raise _UnfitError
        shape, stride, offset = tuple(output.shape), output.stride(), output.storage_offset()
        storage = output.untyped_storage()
        sharing = [number for number, tensor in enumerate(tensors) if tensor.untyped_storage()._cdata == storage._cdata]
        if sharing:
            if len(tensors) > 1:
                # Another time, another one of them may be the one that it is a view of.
                raise _UnfitError
            return _Output(0, False, shape, stride, offset, output.dtype, output.fake_device)
        span = 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True)) if 0 not in shape else 0
        if offset or storage.nbytes() != span * output.element_size() or _count(storage, outputs) > 1:
            raise _UnfitError
        return _Output(None, False, shape, stride, 0, output.dtype, output.fake_device)


def _run(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> Any:
    return func(*args, **kwargs) if kwargs else func(*args)


def _signature(values: Sequence[Any], tensors: list[FakeTensor]) -> tuple[Any, ...]:
    """What a call's outputs follow from, hashable; its tensors are added to ``tensors``."""
    parts: list[Any] = []
    for value in values:
        kind = type(value)
        if isinstance(value, FakeTensor):
            if not _is_plain(value):
                raise _UnfitError
            tensors.append(value)
            parts.append((value.dtype, value.shape, value.stride(), value.storage_offset(), value.fake_device))
        elif kind is tuple or kind is list:
            parts.append((kind, _signature(value, tensors)))
        elif isinstance(value, Tensor):
            raise _UnfitError
        else:
            # 1, 1.0 and True are equal, and promote types differently.
            parts.append((kind, value))
    return tuple(parts)


def _is_plain(tensor: FakeTensor) -> bool:
    """Dense, and without a value that FakeTensorMode knows and computes with."""
    return tensor.constant is None and tensor.layout is torch.strided and not tensor.dtype.is_complex


def _count(storage: torch.UntypedStorage, outputs: Sequence[Any]) -> int:
    return sum(isinstance(one, Tensor) and one.untyped_storage()._cdata == storage._cdata for one in outputs)
