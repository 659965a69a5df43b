"""Writes to a CSV file where cudaMalloc puts what it is asked for: three random sequences of 300 calls, on this GPU.

Their evidence is results/h100/cuda_malloc.csv, after which lorabench/device/address_space.py is modelled.
"""

import csv
import ctypes
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

MIB = 1 << 20


def main(path: str) -> None:
    torch.zeros(1, device="cuda")
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["sequence", "action", "address", "bytes"])
        for seed in range(3):
            writer.writerows((seed, *call) for call in sequence(runtime(), random.Random(seed)))


def runtime() -> Any:
    """The CUDA runtime that torch has loaded."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    return ctypes.CDLL(next(line.split()[-1] for line in maps if "libcudart" in line))


def sequence(cuda: Any, dice: random.Random) -> Iterator[tuple[str, int, int]]:
    live: list[tuple[int, int]] = []
    for _ in range(300):
        if live and dice.random() < 0.4:
            address, nbytes = live.pop(dice.randrange(len(live)))
            cuda.cudaFree(ctypes.c_void_p(address))
            yield "free", address, nbytes
            continue
        mib = dice.choice([2, 2, 20, 20, 2 * dice.randint(5, 40), 2 * dice.randint(50, 300), 1024, 2048])
        pointer = ctypes.c_void_p()
        if cuda.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(mib * MIB)):
            break
        assert pointer.value is not None
        live.append((pointer.value, mib * MIB))
        yield "malloc", pointer.value, mib * MIB
    for address, _ in live:
        cuda.cudaFree(ctypes.c_void_p(address))


if __name__ == "__main__":
    main(sys.argv[1])
