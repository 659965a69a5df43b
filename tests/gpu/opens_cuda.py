"""A module that opens CUDA when it is imported, as a library may."""

from __future__ import annotations

import torch

torch.cuda.init()
