"""A module that leaves torch as a library does that opens CUDA when it is imported; it needs no GPU."""

from __future__ import annotations

import torch

# torch.cuda.init() fails where there is no GPU, or a build for the CPU: these are the marks that it would leave.
torch.version.cuda = torch.version.cuda or "12.8"
torch.cuda._initialized = True
