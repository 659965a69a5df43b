"""What the cards' causes name is in the libraries that the H100 ran, too: its records are explained by them."""

from __future__ import annotations

import pytest
from causes import CAUSES, defined, files, names_beside, names_in_files


@pytest.mark.parametrize("claim", CAUSES)
def test_a_cause_names_functions_that_its_files_have(claim):
    cause = CAUSES[claim]
    assert [(name, path) for name, path in names_in_files(cause) if name not in defined(path)] == []
    assert [path for path in files(cause) if not names_beside(cause, path) & defined(path)] == []
