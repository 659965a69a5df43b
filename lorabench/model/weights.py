"""Random weights that transformers' loader reads as if they lay in a checkpoint.

The loader asks for one tensor at a time, and each is made when it is asked for, on the device itself: there is no
host copy, and the loader allocates in its own order, warm-up of the caching allocator included.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from types import EllipsisType
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from transformers import PreTrainedModel

from lorabench.errors import InputError


def name_seed(seed: int, name: str) -> int:
    """A seed of its own for every named tensor, so that values depend neither on order nor on what else is built."""
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def holds_values(tensor: torch.Tensor) -> bool:
    """False for fake and meta tensors, which have a shape alone."""
    return not tensor.is_meta and not isinstance(tensor.data, FakeTensor)


class RandomWeight:
    """One parameter, initialised by the model's own ``_init_weights`` each time it is read with ``weight[...]``."""

    def __init__(self, skeleton: PreTrainedModel, name: str, device: torch.device, seed: int) -> None:
        self._skeleton, self._name, self._device, self._seed = skeleton, name, device, seed

    def __getitem__(self, index: EllipsisType) -> torch.Tensor:
        return _initialised(self._skeleton, self._name, self._device, self._seed)


def random_weights(skeleton: PreTrainedModel, device: torch.device, seed: int) -> dict[str, RandomWeight]:
    """A state dict for ``from_pretrained(None, state_dict=...)`` of every parameter that is not tied to another.

    Args:
        skeleton: the model on the meta device, in the dtype that its weights shall have before quantization.
    """
    tied = skeleton.all_tied_weights_keys
    return {
        name: RandomWeight(skeleton, name, device, seed) for name, _ in skeleton.named_parameters() if name not in tied
    }


@torch.no_grad()
def _initialised(skeleton: PreTrainedModel, name: str, device: torch.device, seed: int) -> torch.Tensor:
    owner_path, _, attribute = name.rpartition(".")
    owner = skeleton.get_submodule(owner_path)
    shape_alone = owner.get_parameter(attribute)
    value = nn.Parameter(torch.empty_like(shape_alone, device=device).fill_(torch.nan), requires_grad=False)
    setattr(owner, attribute, value)
    torch.manual_seed(name_seed(seed, name))
    try:
        for module, initialise in writers(skeleton, owner_path):
            initialise(module)
    finally:
        setattr(owner, attribute, shape_alone)
    if holds_values(value) and value.flatten()[0].isnan():
        raise InputError(f"{type(skeleton).__name__} never initialises {name}: use `weights: pretrained`")
    return value.data


def writers(skeleton: PreTrainedModel, owner_path: str) -> Iterator[tuple[nn.Module, Callable[[nn.Module], Any]]]:
    """The modules whose ``_init_weights`` can write a parameter of the owner: itself, then its parents.

    The order and the choice of method are those of ``PreTrainedModel.initialize_weights``: a parent comes after its
    children and may overwrite them (T5 and GPT-2 do), and a nested PreTrainedModel initialises what lies below it.
    """
    path: list[nn.Module] = [skeleton]
    for part in filter(None, owner_path.split(".")):
        path.append(path[-1].get_submodule(part))
    initialise = skeleton._init_weights
    chain: list[tuple[nn.Module, Callable[[nn.Module], Any]]] = []
    for module in path:
        if isinstance(module, PreTrainedModel):
            initialise = module._init_weights
        chain.append((module, initialise))
    yield from reversed(chain)
