"""The preload's rules, with a torch that claims to have CUDA; tests/gpu/test_fork_server.py has the real one."""

from __future__ import annotations

import pynvml
import pytest
import torch
from bitsandbytes.cextension import lib

from lorabench.runner import preload as module
from lorabench.runner.preload import capability_from_nvml, has_cuda_kernels, preload, why_not_fork


@pytest.fixture
def claims_cuda(monkeypatch):
    """Two GPUs of different kinds; asking CUDA itself fails the test."""

    def ask_cuda(device=None):
        raise AssertionError("CUDA was asked")

    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", ask_cuda)
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: index)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCudaComputeCapability", lambda handle: [(9, 0), (8, 6)][handle])
    monkeypatch.setattr(module, "_driver_initialised", lambda: False)
    return ask_cuda


def test_what_cannot_be_imported_is_told():
    assert preload(["json", "no_such_module", "torch.no_such_part"]) == ["no_such_module", "torch.no_such_part"]


def test_nvml_answers_for_cuda(claims_cuda, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with capability_from_nvml():
        # As bitsandbytes asks, and in the other ways that torch allows.
        assert [torch.cuda.get_device_capability(torch.cuda.device(index)) for index in (0, 1)] == [(9, 0), (8, 6)]
        assert torch.cuda.get_device_capability("cuda:1") == (8, 6)
        assert torch.cuda.get_device_capability(torch.device("cuda", 1)) == (8, 6)
        assert torch.cuda.get_device_capability() == (9, 0)
    assert torch.cuda.get_device_capability is claims_cuda


def test_nvml_answers_for_the_visible_devices(claims_cuda, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with capability_from_nvml():
        assert torch.cuda.get_device_capability(0) == (8, 6)


def test_without_cuda_nothing_is_replaced():
    original = torch.cuda.get_device_capability
    with capability_from_nvml():
        assert torch.cuda.get_device_capability is original


def test_without_cuda_it_forks():
    assert why_not_fork() is None


def test_an_initialised_torch_does_not_fork(claims_cuda, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert "CUDA was initialised" in why_not_fork()


def test_an_initialised_driver_does_not_fork(claims_cuda, monkeypatch):
    monkeypatch.setattr(module, "_driver_initialised", lambda: True)
    assert "driver was initialised" in why_not_fork()


@pytest.mark.skipif(lib.compiled_with_cuda, reason="this bitsandbytes has its CUDA kernels")
def test_missing_kernels_do_not_fork(claims_cuda):
    assert not has_cuda_kernels()
    assert "no CUDA kernels" in why_not_fork()
