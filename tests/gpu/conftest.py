from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--truth-table", default=None, help="where to write the bytes of plain code and of the bench as CSV"
    )
