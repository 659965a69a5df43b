"""The CUDA device on a GPU, the allocator's model beside the allocator itself, and what can be told without a GPU."""

from __future__ import annotations

import random
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from lorabench.device.allocator import MIB, CachingAllocator
from lorabench.device.cuda import CudaDevice, bytes_of_process

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@pytest.mark.parametrize(
    ("processes", "expected"),
    [
        ([], None),
        ([(7, 100), (8, 200)], 200),
        ([(7, 100)], None),
        ([(8, None)], None),
        ([(8, 0)], 0),
    ],
)
def test_only_this_process_counts(processes: list[tuple[int, int | None]], expected: int | None) -> None:
    listed = [SimpleNamespace(pid=pid, usedGpuMemory=nbytes) for pid, nbytes in processes]
    assert bytes_of_process(listed, 8) == expected


@pytest.fixture
def cuda() -> Iterator[CudaDevice]:
    device = CudaDevice()
    with device.session():
        yield device
        device.settle()


@pytest.mark.gpu
@needs_gpu
def test_counters_are_the_allocators(cuda: CudaDevice) -> None:
    cuda.settle()
    cuda.reset_peak()
    before = cuda.allocated_bytes()
    held = torch.empty(501 * MIB, dtype=torch.uint8, device=cuda.torch_device)
    gone = torch.empty(1, device=cuda.torch_device)
    del gone
    assert cuda.allocated_bytes() - before == 502 * MIB
    assert cuda.peak_allocated_bytes() - before == 502 * MIB + 512
    assert cuda.peak_reserved_bytes() >= 504 * MIB
    used = cuda.device_used_bytes()
    assert used > 502 * MIB
    del held
    cuda.settle()
    assert cuda.allocated_bytes() == before
    assert cuda.device_used_bytes() <= used - 502 * MIB


@pytest.mark.gpu
@needs_gpu
def test_events_time_the_stream_and_not_the_host(cuda: CudaDevice) -> None:
    start = cuda.mark()
    torch.cuda._sleep(100_000_000)
    slept = cuda.mark()
    nothing = cuda.mark()
    sleeping, empty = cuda.elapsed_s([start, slept, nothing])
    assert sleeping > 0.01
    assert 0 <= empty < sleeping / 10


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("seed", range(5))
def test_the_model_counts_what_the_allocator_counts(cuda: CudaDevice, seed: int) -> None:
    cuda.settle()
    cuda.reset_peak()
    allocated, reserved = cuda.allocated_bytes(), torch.cuda.memory_reserved(cuda.torch_device)
    assert (allocated, reserved) == (0, 0), "something else holds memory in this process"
    model = CachingAllocator()
    draw = random.Random(seed)
    live: list[tuple[torch.Tensor, int]] = []
    for _ in range(2000):
        if live and draw.random() < 0.5:
            tensor, address = live.pop(draw.randrange(len(live)))
            del tensor
            model.free(address)
        else:
            nbytes = draw.choice([draw.randint(1, 4096), draw.randint(1, 2 * MIB), draw.randint(MIB, 60 * MIB)])
            live.append((torch.empty(nbytes, dtype=torch.uint8, device=cuda.torch_device), model.allocate(nbytes)))
        assert model.allocated_bytes == cuda.allocated_bytes()
        # Where cudaMalloc puts segments decides ties between equal blocks, and the model does not know it.
        assert model.reserved_bytes == pytest.approx(torch.cuda.memory_reserved(cuda.torch_device), rel=0.02)
    assert model.peak_allocated_bytes == cuda.peak_allocated_bytes()
