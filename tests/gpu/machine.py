"""The GPU of this machine: what it is, and how many processes it has room for."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

import pytest

from lorabench.catalog import DEFAULT_CARD, Card, find_card
from lorabench.environment import resolve_device
from lorabench.errors import DeviceError
from lorabench.nvml import visible_gpus

T = TypeVar("T")

TOTAL_GB = next((gpu.total_bytes for gpu in visible_gpus()), DEFAULT_CARD.total_bytes) / 1e9
"""Without a GPU, where tests are collected and not run, an H100's."""
ROOM_GB = TOTAL_GB * 8 / 9
"""For processes beside each other, none of whose needs is known to the last GB."""


def at_once(most: int, each_gb: float) -> int:
    """Processes that find room beside each other, ``most`` at the most."""
    return min(most, int(ROOM_GB // each_gb))


def this_card() -> Card:
    """What the catalogue has of this machine's GPU; without it nothing is predicted, and the test is skipped."""
    name = resolve_device("cuda").device.name
    try:
        return find_card(name)
    except DeviceError:
        pytest.skip(f"{name} is not in lorabench/catalog/cards.py")


def in_own_process(function: Callable[[], T]) -> T:
    """What ``function`` returns: CUDA that this process opened would stay on the GPU, in use for tests that follow."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function).result()
