from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    for option, what in {
        "--truth-table": "the bytes of plain code and of the bench",
        "--fits-table": "how the answers of `lorabench fit` ended on the GPU, and their neighbours",
        "--operators-table": "where the operators of a predicted step are others than the GPU's",
    }.items():
        parser.addoption(option, default=None, metavar="FILE", help=f"where to write {what} as CSV")
