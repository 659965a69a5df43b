"""What tests of the fake device share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lorabench.device.allocator import CachingAllocator


@pytest.fixture
def blocks_asked_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], list[int]]:
    """Runs what it is given and answers with the sizes that were asked of the allocator, in their order."""

    def run(work: Callable[[], object]) -> list[int]:
        asked: list[int] = []
        allocate = CachingAllocator.allocate

        def note(allocator: CachingAllocator, nbytes: int) -> int:
            asked.append(nbytes)
            return allocate(allocator, nbytes)

        with monkeypatch.context() as patch:
            patch.setattr(CachingAllocator, "allocate", note)
            kept = work()
            del kept
        return asked

    return run
