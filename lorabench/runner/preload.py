"""Imports what every case needs before the server forks, and leaves CUDA alone while at it.

A process that has touched CUDA cannot fork children that use it. ``bitsandbytes`` (and so ``peft``) asks for the
devices' compute capability when it is imported, which initialises CUDA; with the devices hidden it registers no CUDA
kernels, and its int8 runs on a slow fallback. So the devices stay visible and NVML answers.
Standard library, the torch stack and NVML only.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

DEFAULT_MODULES = (
    "torch",
    "torch.utils.checkpoint",
    "torch._dynamo",
    "transformers",
    "transformers.integrations.bitsandbytes",
    "transformers.models.auto.modeling_auto",
    "transformers.models.bert.modeling_bert",
    "transformers.models.gpt2.modeling_gpt2",
    "transformers.models.llama.modeling_llama",
    "transformers.models.mistral.modeling_mistral",
    "transformers.models.opt.modeling_opt",
    "transformers.models.qwen2.modeling_qwen2",
    "transformers.models.t5.modeling_t5",
    "peft",
    "peft.tuners.lora.bnb",
    "peft.utils.transformers_weight_conversion",
    "bitsandbytes",
)

_CUDA_ERROR_NOT_INITIALIZED = 3
# An operator for which bitsandbytes has a kernel of its own on CUDA and a slow fallback elsewhere.
_PROBED_OPERATOR = "bitsandbytes::int8_linear_matmul"


def prepare_environment() -> None:
    """Before torch is imported: ask NVML, not CUDA, whether there are devices, and number them as NVML does."""
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")


def preload(modules: Sequence[str]) -> list[str]:
    """Imports ``modules`` and returns those that could not be: other versions of a library may lack one."""
    missing = []
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError:
            missing.append(module)
    return missing


@contextmanager
def capability_from_nvml() -> Iterator[None]:
    """Within it, ``torch.cuda.get_device_capability`` answers from NVML.

    Does nothing where torch sees no CUDA device, or where NVML cannot be asked: then :func:`why_not_fork` notices.
    """
    import torch

    if importlib.util.find_spec("pynvml") is None or torch.version.cuda is None or not torch.cuda.is_available():
        yield
        return
    original = torch.cuda.get_device_capability
    torch.cuda.get_device_capability = _nvml_capability
    try:
        yield
    finally:
        torch.cuda.get_device_capability = original


def _nvml_capability(device: Any = None) -> tuple[int, int]:
    import pynvml
    import torch

    index = getattr(device, "idx", device)
    if isinstance(index, (str, torch.device)):
        index = torch.device(index).index
    pynvml.nvmlInit()
    # torch's own mapping of its indices to NVML's: it knows CUDA_VISIBLE_DEVICES.
    nvml_index = torch.cuda._get_nvml_device_index(0 if index is None else index)
    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(pynvml.nvmlDeviceGetHandleByIndex(nvml_index))
    return major, minor


def why_not_fork() -> str | None:
    """The reason why children forked from this process would measure something wrong; None if they would not."""
    torch = sys.modules.get("torch")
    if torch is None or torch.version.cuda is None:
        return None
    if torch.cuda.is_initialized():
        return "CUDA was initialised in torch by an import"
    if _driver_initialised():
        return "CUDA's driver was initialised by an import"
    if torch.cuda.is_available() and "bitsandbytes" in sys.modules and not has_cuda_kernels():
        return "bitsandbytes loaded no CUDA kernels"
    return None


def has_cuda_kernels() -> bool:
    """Whether bitsandbytes loaded its CUDA library in this process and registered its kernels."""
    import torch
    from bitsandbytes.cextension import lib

    registered = torch._C._dispatch_has_kernel_for_dispatch_key(_PROBED_OPERATOR, "CUDA")
    return bool(registered) and bool(getattr(lib, "compiled_with_cuda", False))


def _driver_initialised() -> bool:
    """Asks the driver without initialising it: before ``cuInit``, every other call is refused with error 3."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    context = ctypes.c_void_p()
    return bool(driver.cuCtxGetCurrent(ctypes.byref(context)) != _CUDA_ERROR_NOT_INITIALIZED)
