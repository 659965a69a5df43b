"""bitsandbytes' parameters around fake tensors.

``Tensor._make_subclass`` cannot wrap a fake tensor. Here the wrapped one stays a fake tensor and becomes an instance of
the parameter's class too, so that all its methods are bitsandbytes' own.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from bitsandbytes.nn import Int8Params, Params4bit
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor


class _FakeInt8Params(FakeTensor, Int8Params):  # type: ignore[misc]
    def to(self, *args: Any, **kwargs: Any) -> Any:
        # Quantized weights move as they are. Others come from the host (what a merge computed and copied there), and
        # on the device there is then an fp16 copy, whatever their dtype (Int8Params._quantize).
        if self.data.dtype != torch.int8 and not _to_meta(*args, **kwargs):
            half = torch.empty(self.shape, dtype=torch.float16)
            return Int8Params(half, requires_grad=False, has_fp16_weights=self.has_fp16_weights)._quantize(half.device)
        return super().to(*args, **kwargs)


class _FakeParams4bit(FakeTensor, Params4bit):  # type: ignore[misc]
    def to(self, *args: Any, **kwargs: Any) -> Any:
        # A weight that was quantized before comes from a merge too, and so from the host: on the device there is first
        # a copy of it (Params4bit._quantize). The loader's weights lie on the device.
        if self.quant_state is not None and not self.bnb_quantized and not _to_meta(*args, **kwargs):
            self.data = torch.empty_like(self.data)
        return super().to(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        # In the order of Params4bit.__deepcopy__, which makes an instance without data first.
        state = copy.deepcopy(self.quant_state)
        copied = make_subclass(Params4bit, copy.deepcopy(self.data), self.requires_grad)
        vars(copied).update({**vars(self), "quant_state": state})
        return copied


# PEFT knows them by the name of their class.
_FakeInt8Params.__name__ = Int8Params.__name__
_FakeParams4bit.__name__ = Params4bit.__name__


def _to_meta(*args: Any, **kwargs: Any) -> bool:
    device = torch._C._nn._parse_to(*args, **kwargs)[0]
    return device is not None and device.type == "meta"


_make_subclass = Tensor._make_subclass


def make_subclass(cls: type, data: Tensor, require_grad: bool = False, **options: Any) -> Any:
    """``Tensor._make_subclass``, but for bitsandbytes' parameters of fake tensors."""
    if not (isinstance(data, FakeTensor) and issubclass(cls, (Int8Params, Params4bit))):
        return _make_subclass(cls, data, require_grad, **options)
    parameter = data.detach().requires_grad_(require_grad)
    parameter._is_param = True
    parameter.__class__ = _FakeInt8Params if issubclass(cls, Int8Params) else _FakeParams4bit
    return parameter
