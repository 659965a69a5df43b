"""Workers for the fork server that use CUDA."""

from __future__ import annotations

from lorabench.case import Case
from lorabench.runner.job import Emit, Job


def run_job(job: Job, emit: Emit) -> None:
    behaviours = {"look-around": look_around, "spoil-cuda": spoil_cuda, "use-up-memory": use_up_memory}
    for index, case in enumerate(job.cases):
        behaviours[case.scenario](case, index, emit)


def _tell(index: int, emit: Emit, **observations: object) -> None:
    emit({"event": "result", "case": index, "status": "ok", "error": None, "observations": observations})


def look_around(case: Case, index: int, emit: Emit) -> None:
    """Whether CUDA is fresh, and whether bitsandbytes multiplies on it with its own kernels."""
    import bitsandbytes
    import torch

    from lorabench.runner.preload import has_cuda_kernels

    fresh = not torch.cuda.is_initialized()
    left = torch.randint(-127, 128, (64, 128), dtype=torch.int8, device="cuda")
    right = torch.randint(-127, 128, (32, 128), dtype=torch.int8, device="cuda")
    product = torch.ops.bitsandbytes.int8_linear_matmul(left, right)
    expected = (left.cpu().long() @ right.cpu().long().T).to(product.dtype)
    with torch.profiler.profile() as profile:
        torch.ops.bitsandbytes.int8_linear_matmul(left, right)
        torch.cuda.synchronize()
    _tell(
        index,
        emit,
        fresh=fresh,
        capability=list(torch.cuda.get_device_capability()),
        kernels_registered=has_cuda_kernels(),
        library=type(bitsandbytes.cextension.lib).__name__,
        equal=bool(torch.equal(product.cpu(), expected)),
        operators=sorted({event.key for event in profile.key_averages()}),
    )


def spoil_cuda(case: Case, index: int, emit: Emit) -> None:
    """A device-side assertion: every later CUDA call of the process fails."""
    import torch

    emit.phase("forward", index)
    torch.zeros(4, device="cuda")[torch.tensor([9], device="cuda")]
    torch.cuda.synchronize()


def use_up_memory(case: Case, index: int, emit: Emit) -> None:
    import torch

    emit.phase("backward", index)
    total_bytes = torch.cuda.get_device_properties(0).total_memory
    torch.empty(2 * total_bytes, dtype=torch.uint8, device="cuda")
