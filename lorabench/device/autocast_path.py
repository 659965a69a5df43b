"""Autocast as it works on CUDA, for tensors on the CPU.

CUDA and the CPU cast different operators: CUDA runs ``pow`` and ``layer_norm`` in fp32, say, the CPU does not. The
lists and the four policies are those of aten/src/ATen/autocast_mode.h (``AT_FORALL_LOWER_PRECISION_FP``,
``AT_FORALL_FP32``, ``AT_FORALL_FP32_SET_OPT_DTYPE``, ``AT_FORALL_PROMOTE``), as the documentation of torch.amp has them
under "CUDA Op-Specific Behavior". They take the place of the CPU's while a session's autocast lasts.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lorabench.device.replacement import Replacement

_LOWER = """
conv1d conv2d conv3d _convolution conv_tbc convolution linear matmul addmm addmv addr mm mv bmm baddbmm addbmm
linalg_vecdot linalg_multi_dot chain_matmul prelu
"""
_FP32 = """
acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan pow softplus layer_norm
native_layer_norm group_norm cosine_similarity poisson_nll_loss cosine_embedding_loss nll_loss nll_loss2d
hinge_embedding_loss kl_div l1_loss smooth_l1_loss huber_loss mse_loss margin_ranking_loss multilabel_margin_loss
soft_margin_loss triplet_margin_loss multi_margin_loss binary_cross_entropy_with_logits dist pdist cdist renorm
logsumexp
"""
_FP32_BY_DTYPE = "prod softmax log_softmax cumprod cumsum sum linalg_vector_norm linalg_matrix_norm"
"""Told the dtype of their result, they convert in their kernels: no copy of the input is made."""
_WIDEST = "addcdiv addcmul atan2 bilinear cross dot vdot grid_sampler index_put tensordot scatter_add"

_KEY = "AutocastCPU"
_EXCLUDED = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)


class CudaAutocast:
    """CUDA's lists in the place of the CPU's, from the first autocast of a session to its end."""

    def __init__(self) -> None:
        self._library: torch.library.Library | None = None
        # Casts of trained weights are kept until the outermost autocast ends (``cached_cast`` in autocast_mode.cpp).
        self._casts: dict[int, tuple[weakref.ref[Tensor], Tensor]] = {}

    @contextmanager
    def session(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._casts.clear()
            if self._library is not None:
                self._library._destroy()
                self._library = None

    def replacements(self) -> list[Replacement]:
        def enter(context: torch.autocast) -> Any:
            return self._enter(context)

        return [
            (torch.autocast, "__enter__", enter),
            (torch, "is_autocast_enabled", _is_enabled),
            (torch, "clear_autocast_cache", self._casts.clear),
        ]

    def lowering(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` as an operator of the list of lower precision, which stands above autocast's dispatch key."""
        lowered = self._in_lower_precision(function)

        def run(*args: Any, **kwargs: Any) -> Any:
            return (lowered if _ENABLED("cpu") else function)(*args, **kwargs)

        return run

    def _enter(self, context: torch.autocast) -> Any:
        # Libraries turn autocast off around what needs precision, which changes nothing where it is off already.
        if context._enabled and context.device == "cpu" and self._library is None:
            self._library = self._register()
        return _ENTER(context)

    def _register(self) -> torch.library.Library:
        library = torch.library.Library("aten", "IMPL")
        policies = {
            **dict.fromkeys(_operators(_LOWER), self._in_lower_precision),
            **dict.fromkeys(_operators(_FP32), _in_fp32),
            **dict.fromkeys(_operators(_FP32_BY_DTYPE), _in_fp32_by_dtype),
            **dict.fromkeys(_operators(_WIDEST), _in_widest),
        }
        with warnings.catch_warnings():
            # torch says of each operator that the CPU's policy is overridden.
            warnings.simplefilter("ignore")
            for operator, policy in policies.items():
                library.impl(operator, policy(operator), _KEY)
            for operator in _listed_for_the_cpu() - policies.keys():
                library.impl(operator, torch.library.fallthrough_kernel, _KEY)
        return library

    def _in_lower_precision(self, operator: Any) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            with torch._C._ExcludeDispatchKeyGuard(_EXCLUDED):
                return operator(*_last_first(self._lower, args), **_named_last_first(self._lower, kwargs))

        return run

    def _lower(self, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [self._lower(item) for item in value]
        dtype = torch.get_autocast_dtype("cpu")
        if not _is_eligible(value) or value.dtype == dtype:
            return value
        is_kept = (
            value.dtype == torch.float32
            and value.requires_grad
            and value.is_leaf
            and not value._is_view()
            and torch.is_autocast_cache_enabled()
        )
        if not is_kept:
            return value.to(dtype)
        known = self._casts.get(id(value))
        if known is None or known[0]() is not value:
            known = self._casts[id(value)] = (weakref.ref(value), value.to(dtype))
        return known[1]


def _in_fp32(operator: Any) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(_EXCLUDED):
            return operator(*_last_first(_to_fp32, args), **_named_last_first(_to_fp32, kwargs))

    return run


def _in_fp32_by_dtype(operator: Any) -> Callable[..., Any]:
    names = [argument.name for argument in operator._schema.arguments]
    position = names.index("dtype") if "dtype" in names else None

    def run(*args: Any, **kwargs: Any) -> Any:
        given = position is not None and position < len(args) and args[position] is not None
        with torch._C._ExcludeDispatchKeyGuard(_EXCLUDED):
            if position is None or given or kwargs.get("dtype") is not None or not _is_eligible(args[0]):
                return operator(*args, **kwargs)
            if position < len(args):
                return operator(*args[:position], torch.float32, *args[position + 1 :], **kwargs)
            return operator(*args, **{**kwargs, "dtype": torch.float32})

    return run


def _in_widest(operator: Any) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        tensors = [arg for arg in args if _is_eligible(arg)]
        is_wide = any(tensor.dtype == torch.float32 for tensor in tensors)
        with torch._C._ExcludeDispatchKeyGuard(_EXCLUDED):
            dtype = torch.float32 if is_wide else torch.get_autocast_dtype("cpu")
            return operator(*_last_first(lambda arg: _cast(arg, dtype), args), **kwargs)

    return run


def _last_first(cast: Callable[[Any], Any], values: Sequence[Any]) -> list[Any]:
    """Casts in the order in which the compiler of torch's builds for Linux has an operator's arguments evaluated."""
    return [cast(value) for value in reversed(values)][::-1]


def _named_last_first(cast: Callable[[Any], Any], values: Mapping[str, Any]) -> dict[str, Any]:
    return dict(zip(values, _last_first(cast, [*values.values()]), strict=True))


def _to_fp32(value: Any) -> Any:
    return _cast(value, torch.float32)


def _is_eligible(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.dtype != torch.float64


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, (list, tuple)) and any(isinstance(item, Tensor) for item in value):
        return [_cast(item, dtype) for item in value]
    return value.to(dtype) if _is_eligible(value) and value.dtype != dtype else value


def _operators(names: str) -> list[Any]:
    """Every overload that returns a new tensor; those with ``out`` and in-place ones are not listed."""
    found = []
    for name in names.split():
        packet = getattr(torch.ops.aten, name, None)
        for overload in packet.overloads() if packet is not None else ():
            operator = getattr(packet, overload)
            if not operator._schema.is_mutable:
                found.append(operator)
    return found


def _listed_for_the_cpu() -> set[Any]:
    """Operators that have a policy of the CPU's autocast."""
    names = (name for name in torch._C._dispatch_get_all_op_names() if name.startswith("aten::"))
    found = set()
    for name in names:
        if torch._C._dispatch_has_kernel_for_dispatch_key(name, _KEY):
            packet, _, overload = name.removeprefix("aten::").partition(".")
            found.add(getattr(getattr(torch.ops.aten, packet), overload or "default"))
    return found


_ENTER: Callable[[torch.autocast], Any] = torch.autocast.__enter__
_ENABLED: Callable[[str], bool] = torch.is_autocast_enabled


def _is_enabled(device_type: str = "cpu") -> bool:
    """Without an argument CUDA's flag is meant, which libraries ask for: here it is the CPU's."""
    return _ENABLED(device_type)
