"""Predicts a case in the test's own process."""

from __future__ import annotations

from lorabench.case import Case
from lorabench.device.fake import FakeDevice
from lorabench.record import Memory
from lorabench.workload import make_workload
from lorabench.workload.passes import MemoryPass


def predict(case: Case) -> Memory:
    """The bytes of its steady steps on an H100."""
    device = FakeDevice()
    with device.session():
        memory = MemoryPass(make_workload(case, device), device, lambda phase: None)
        memory.build()
        memory.run()
        return memory.memory()
