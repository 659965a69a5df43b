"""The public namespace: what is in it is meant to be, and importing it is cheap."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import lorabench

HEAVY = ("torch", "pandas", "numpy", "scipy", "transformers", "peft", "bitsandbytes", "pydantic", "typer", "rich")


def test_all_is_sorted_and_complete():
    public = {
        name
        for name, value in vars(lorabench).items()
        if not name.startswith("_") and not inspect.ismodule(value) and name not in ("annotations", "TYPE_CHECKING")
    }
    assert set(lorabench.__all__) == public | {"__version__"}
    assert lorabench.__all__ == sorted(lorabench.__all__)


@pytest.mark.parametrize("name", [name for name in lorabench.__all__ if name != "__version__"])
def test_everything_public_is_documented(name):
    value = getattr(lorabench, name)
    assert inspect.getdoc(value)
    if inspect.isfunction(value):
        hints = value.__annotations__
        assert "return" in hints
        assert set(inspect.signature(value).parameters) <= set(hints)


def test_import_is_cheap():
    code = f"import lorabench, sys; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_version_is_in_one_place():
    assert metadata.version("lorabench") == lorabench.__version__
    root = Path(lorabench.__file__).parent
    assert [path.name for path in root.rglob("*.py") if f'"{lorabench.__version__}"' in path.read_text()] == [
        "__init__.py"
    ]


def test_the_package_is_typed():
    assert (Path(lorabench.__file__).parent / "py.typed").exists()


def test_load_takes_one_path_or_several(tmp_path, environment, make_record):
    path = tmp_path / "results.jsonl"
    path.write_text(json.dumps(environment.to_dict()) + "\n" + json.dumps(make_record().to_dict()) + "\n")
    assert len(lorabench.load(path)) == len(lorabench.load(str(path))) == len(lorabench.load([path])) == 1
