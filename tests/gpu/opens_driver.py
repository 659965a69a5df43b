"""A module that opens CUDA's driver when it is imported, past torch, as a library with kernels of its own may."""

from __future__ import annotations

import ctypes

assert ctypes.CDLL("libcuda.so.1").cuInit(0) == 0
