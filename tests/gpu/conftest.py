from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lorabench.runner import watch


@pytest.fixture(scope="module", autouse=True)
def shared_gpu() -> Iterator[None]:
    """Beside the tests of other workers, which stay on the GPU, no case waits until it is free."""
    with pytest.MonkeyPatch.context() as patch:
        if "PYTEST_XDIST_WORKER" in os.environ:
            patch.setattr(watch, "GONE_WITHIN_S", 0)
        yield


def pytest_addoption(parser: pytest.Parser) -> None:
    for option, what in {
        "--truth-table": "the bytes of plain code and of the bench",
        "--fits-table": "how the answers of `lorabench fit` ended on the GPU, and their neighbours",
        "--operators-table": "where the operators of a predicted step are others than the GPU's",
    }.items():
        parser.addoption(option, default=None, metavar="FILE", help=f"where to write {what} as CSV")
