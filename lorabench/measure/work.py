"""How much a step has to do: floating-point operations and bytes moved, counted operator by operator.

Operations are those of PyTorch's own counter (``torch.utils.flop_counter``), of matrix products, convolutions and
attention alone, two for each multiply-add; the formulas of what it lacks, bitsandbytes' products and fused attention
with grouped queries, are added here. They are told by the dtype that they run in, for a device has a speed for each.

Bytes moved are what an operator cannot do without: each tensor that it reads, once, and each that it writes, once. A
view moves nothing; a broadcast tensor counts with the elements that it has; a lookup reads the rows that it returns.
What stays in a cache between two operators moves fewer bytes than counted, so a small model can seem to beat the
memory; what an operator does inside (a fused attention's blocks, dequantized weights) is not seen.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from lorabench.measure.phases import OnPhase

DTYPES: Mapping[torch.dtype, str] = {
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.int8: "int8",
}
_MAKES_NOTHING = frozenset({"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"})
_VIEW_WITHOUT_SAYING_SO = frozenset({"_unsafe_view", "lift_fresh", "_reshape_alias"})
_OVERWRITES = frozenset({"copy_", "fill_", "zero_", "normal_", "uniform_", "bernoulli_", "exponential_"})
_LOOKS_UP = frozenset({"embedding", "index", "index_select", "gather"})

Flops = Mapping[str, int]


class WorkCounter(TorchDispatchMode):
    """Counts while it is entered. ``flops`` by dtype name, ``moved_bytes`` of all operators."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops: Counter[str] = Counter()
        self.moved_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "aten" and func._can_decompose() and func.overloadpacket not in flop_registry:
            # Where autograd has not taken a composite operator apart already (inference mode).
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        for name, count in _flops(func, args, kwargs, out):
            self.flops[name] += count
        self.moved_bytes += moved_bytes(func, args, kwargs, out)
        return out


class CountedPhases:
    """Counts the work of each phase of one step; in the shape of ``TimedPhases``, a list of one for each phase."""

    def __init__(self, on_phase: OnPhase) -> None:
        self._on_phase = on_phase
        self._flops: dict[str, Counter[str]] = {}
        self._moved: dict[str, int] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self._on_phase(name)
        with WorkCounter() as counter:
            yield
        self._flops[name] = self._flops.get(name, Counter()) + counter.flops
        self._moved[name] = self._moved.get(name, 0) + counter.moved_bytes

    def work(self, share: Callable[[Mapping[str, list[float]]], Mapping[str, list[float]]]) -> dict[str, Any]:
        """``{phase: {"flops": {dtype: operations}, "moved_bytes": bytes}}``, of the phases as a record names them.

        ``share`` is the workload's ``latency``: it says which phases a record has, and that a decode is one token's.
        """
        moved = share(_with_step(self._moved))
        by_dtype = {
            name: share(_with_step({phase: counter[name] for phase, counter in self._flops.items()}))
            for name in sorted({name for counter in self._flops.values() for name in counter})
        }
        return {
            phase: {
                "flops": {name: round(counts[phase][0]) for name, counts in by_dtype.items() if counts[phase][0]},
                "moved_bytes": round(moved_bytes),
            }
            for phase, [moved_bytes] in moved.items()
        }


def _with_step(counts: Mapping[str, int]) -> dict[str, list[float]]:
    return {**{phase: [float(count)] for phase, count in counts.items()}, "step": [float(sum(counts.values()))]}


def _flops(func: Any, args: Any, kwargs: Any, out: Any) -> Iterable[tuple[str, int]]:
    packet = func.overloadpacket
    if func.namespace == "bitsandbytes":
        formula = _BITSANDBYTES.get(packet.__name__)
        return formula(*args, **kwargs) if formula else ()
    if packet.__name__ in _ATTENTION:
        count = _ATTENTION[packet.__name__](*args)
    elif packet in flop_registry:
        count = flop_registry[packet](*args, **kwargs, out_val=out)
    else:
        return ()
    dtype = next(leaf.dtype for leaf in tree_leaves(args) if isinstance(leaf, Tensor))
    return ((DTYPES.get(dtype, str(dtype).removeprefix("torch.")), count),)


def moved_bytes(func: Any, args: Any, kwargs: Any, out: Any) -> int:
    """Bytes that one call of an operator reads and writes; see the module's text."""
    name = func.overloadpacket.__name__
    if name in _MAKES_NOTHING or name in _VIEW_WITHOUT_SAYING_SO:
        return 0
    mutated, fresh = _writes(func)
    if not mutated and not any(fresh):
        return 0
    outputs = out if isinstance(out, tuple | list) and len(fresh) > 1 else (out,)
    written = sum(_nbytes(value) for value, is_fresh in zip(outputs, fresh, strict=False) if is_fresh)
    given = {**dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)), **kwargs}
    written += sum(_nbytes(given.get(argument)) for argument in mutated)
    if name in _LOOKS_UP:
        # As much as is returned, and where to find it.
        return 2 * written + sum(_nbytes(value) for value in list(given.values())[1:])
    overwritten = mutated if name in _OVERWRITES else mutated & {"out"}
    return written + sum(_nbytes(value) for argument, value in given.items() if argument not in overwritten)


@cache
def _writes(func: Any) -> tuple[frozenset[str], tuple[bool, ...]]:
    """Names of the arguments that an operator writes into, and for each of its results whether it is a new one."""
    schema = func._schema
    mutated = frozenset(
        argument.name
        for argument in schema.arguments
        if argument.alias_info is not None and argument.alias_info.is_write
    )
    return mutated, tuple(result.alias_info is None for result in schema.returns)


def _nbytes(value: Any) -> int:
    return sum(
        leaf.element_size() * math.prod(size for size, stride in zip(leaf.shape, leaf.stride(), strict=True) if stride)
        for leaf in tree_leaves(value)
        if isinstance(leaf, Tensor) and leaf.layout == torch.strided
    )


def _product(rows: Tensor, outgoing: int) -> int:
    """Operations of [..., K] by [K, ``outgoing``]."""
    return 2 * rows.numel() * outgoing


def _int8_product(activations: Tensor, weight: Tensor, *_: Any, **__: Any) -> Iterable[tuple[str, int]]:
    return (("int8", _product(activations, weight.shape[0])),)


def _int8_mixed_product(
    activations: Tensor, quantized: Tensor, weight: Tensor, *rest: Any, outlier_cols: Any = None, **_: Any
) -> Iterable[tuple[str, int]]:
    """The outliers' columns are multiplied once more, in the activations' dtype."""
    columns = rest[2] if len(rest) > 2 else outlier_cols
    yield "int8", _product(quantized, weight.shape[0])
    if columns is not None and columns.numel():
        rows = activations.numel() // activations.shape[-1]
        yield DTYPES[activations.dtype], 2 * rows * columns.numel() * weight.shape[0]


def _nf4_product(activations: Tensor, _: Tensor, shape: Any, *__: Any, **___: Any) -> Iterable[tuple[str, int]]:
    return ((DTYPES[activations.dtype], _product(activations, shape[0])),)


_BITSANDBYTES: Mapping[str, Callable[..., Iterable[tuple[str, int]]]] = {
    "int8_linear_matmul": _int8_product,
    "int8_scaled_mm": _int8_product,
    "int8_mixed_scaled_mm": _int8_mixed_product,
    "gemm_4bit": _nf4_product,
    "gemv_4bit": _nf4_product,
}
"""Of bitsandbytes/_ops.py: the operators that multiply. What nf4 dequantizes first is multiplied by ``aten::mm``."""


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any) -> int:
    """Scores and their product with the values, for each head of the queries: grouped ones share keys and values.

    As ``sdpa_flop_count`` of torch/utils/flop_counter.py, which refuses grouped queries up to torch 2.11.
    """
    batch, heads, length, size = query.shape
    return 2 * batch * heads * length * key.shape[2] * (size + value.shape[3])


def _attention_backward(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: Any) -> int:
    """Scores once more, and the gradients of scores, values, queries and keys (``sdpa_backward_flop_count``)."""
    batch, heads, length, size = query.shape
    return 2 * batch * heads * length * key.shape[2] * (3 * size + 2 * value.shape[3])


_FUSED = ("flash_attention", "efficient_attention", "cudnn_attention", "flash_attention_for_cpu")
_ATTENTION: Mapping[str, Callable[..., int]] = {
    **{f"_scaled_dot_product_{kernel}": _attention for kernel in _FUSED},
    **{f"_scaled_dot_product_{kernel}_backward": _attention_backward for kernel in _FUSED},
}
