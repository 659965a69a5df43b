"""The environment: what it says, what it never says, and which devices there are."""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import psutil
import pytest

from lorabench import environment as module
from lorabench.environment import (
    PREDICTED_CARD,
    EnvironmentDevice,
    Git,
    Target,
    cpu_name,
    describe_environment,
    describe_git,
    describe_os,
    resolve_device,
    resolve_devices,
    torch_has_cuda,
)
from lorabench.errors import DeviceError
from lorabench.interpreter import interpreter_facts, torch_build
from lorabench.nvml import Gpu, GpuUse


@pytest.fixture
def described():
    return describe_environment(resolve_device("cpu"), interpreter_facts())


@pytest.fixture
def gpus(monkeypatch):
    """Pretends that there are two GPUs."""
    found = [Gpu(0, 3, "Imaginary A", 80 << 30), Gpu(1, 5, "Imaginary B", 24 << 30)]
    monkeypatch.setattr(module, "visible_gpus", lambda: found)
    return found


def test_versions_are_those_of_the_packages(described):
    assert described.versions["python"] == ".".join(map(str, sys.version_info[:3]))
    for library in ("transformers", "peft", "bitsandbytes", "accelerate"):
        assert described.versions[library] == metadata.version(library)


def test_facts_of_an_interpreter_with_torch_tell_its_build_and_threads():
    code = "import torch, json; from lorabench.interpreter import interpreter_facts as f; print(json.dumps(f()))"
    facts = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert facts["versions"]["torch"].startswith(metadata.version("torch").partition("+")[0])
    assert facts["torch_threads"] >= 1


def test_versions_are_the_same_before_torch_is_imported():
    code = (
        "import json; from lorabench.interpreter import interpreter_facts as f; before = f()['versions']; "
        "import torch; print(json.dumps([before, f()['versions']]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = json.loads(done.stdout)
    assert before == after


def test_hardware_is_told(described):
    assert described.device == EnvironmentDevice("cpu", cpu_name(), psutil.virtual_memory().total)
    assert described.cpu["threads"] == os.cpu_count()
    assert described.driver is None
    assert described.gpu == {}
    assert "kernel" in described.os


@pytest.mark.parametrize(
    ("release", "kernel"),
    [
        ("6.1.0-13-amd64", "6.1.0"),
        ("5.15.167.4-microsoft-standard-WSL2", "5.15.167"),
        ("6.18.44-cloud-amd64", "6.18.44"),
        ("6.9-rc3", "6.9"),
    ],
)
def test_the_kernel_is_told_without_what_its_vendor_appends(monkeypatch, release, kernel):
    monkeypatch.setattr(module.platform, "release", lambda: release)
    assert describe_os().endswith(f", kernel {kernel}")


@pytest.mark.parametrize(
    ("use", "others"),
    [
        (None, None),
        (GpuUse(frozenset(), 4 << 20), None),
        (GpuUse(frozenset({7}), 600 << 20), {"processes": 1, "used_bytes": 600 << 20}),
    ],
)
def test_who_else_is_on_the_gpu_is_told(monkeypatch, use, others):
    monkeypatch.setattr(module, "describe_gpu", lambda index: {"driver": "580.10", "power_limit_w": 700.0})
    monkeypatch.setattr(module, "gpu_use", lambda index: use)
    target = Target("cuda:0", EnvironmentDevice("cuda", "Imaginary GPU", 80 << 30), 3)
    environment = describe_environment(target, interpreter_facts())
    assert environment.driver == "580.10"
    assert environment.gpu.get("others") == others
    assert environment.gpu["number"] == 3


def test_the_id_follows_the_content(described):
    again = describe_environment(resolve_device("cpu"), interpreter_facts())
    assert again == described
    assert re.fullmatch("[0-9a-f]{12}", described.id)
    facts = interpreter_facts()
    facts["versions"]["peft"] = "0.0"
    assert describe_environment(resolve_device("cpu"), facts).id != described.id


def test_it_is_plain_json_without_a_hosts_or_a_users_name_or_a_path(described):
    text = json.dumps(described.to_dict(), allow_nan=False)
    words = set(re.split(r"[^A-Za-z0-9_.-]+", text))
    assert not words & {socket.gethostname(), getpass.getuser()}
    assert str(Path.home()) not in text
    assert not re.search(r'"/[a-z]', text)


def test_the_cpus_name_is_the_kernels():
    listed = subprocess.run(["lscpu", "--json"], capture_output=True, text=True, check=True).stdout
    models = [field["data"] for field in json.loads(listed)["lscpu"] if field["field"] == "Model name:"]
    assert models in ([], [cpu_name()])


def test_the_cpus_name_is_the_workers():
    from lorabench.device import cpu

    assert cpu.CpuDevice().name == cpu_name()


def test_the_predicted_card_is_the_fake_devices():
    from lorabench.device.fake import FakeDevice

    device = FakeDevice()
    assert EnvironmentDevice("fake", device.name, device.total_bytes) == PREDICTED_CARD
    assert resolve_device("fake") == Target("fake", PREDICTED_CARD)


def test_a_gpu_is_found_by_its_number(gpus):
    assert resolve_device("cuda") == resolve_device("cuda:0")
    assert resolve_device("cuda:1") == Target("cuda:1", EnvironmentDevice("cuda", "Imaginary B", 24 << 30), 5)


def test_a_gpu_that_is_not_there_is_refused_with_those_that_are(gpus):
    with pytest.raises(DeviceError, match=r"cuda:2: no such GPU; there is cuda:0 \(Imaginary A\), cuda:1"):
        resolve_device("cuda:2")


def test_several_gpus_of_one_model_are_found(gpus):
    gpus[1] = Gpu(1, 5, "Imaginary A", 80 << 30)
    assert [(target.spec, target.nvml_index) for target in resolve_devices("cuda:1, cuda:0")] == [
        ("cuda:1", 5),
        ("cuda:0", 3),
    ]
    assert resolve_devices("cuda:1") == (resolve_device("cuda:1"),)


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ("cuda:0,cuda:1", "cuda:0 is Imaginary A and cuda:1 is Imaginary B: name devices of one model"),
        ("cuda,cuda:0", "cuda:0 twice"),
        ("cpu,cpu", "cpu twice"),
        ("cuda:0,cpu", "of one model"),
        ("cuda:0,", "no such device"),
        ("", "no such device"),
        ("cuda:0,cuda:7", "no such GPU"),
    ],
)
def test_devices_that_cannot_run_together_are_refused(gpus, specs, message):
    with pytest.raises(DeviceError, match=message) as refused:
        resolve_devices(specs)
    assert "\n" not in str(refused.value)


def test_no_gpu_at_all_is_said(monkeypatch):
    monkeypatch.setattr(module, "visible_gpus", list)
    with pytest.raises(DeviceError, match="none: choose --device cpu or fake"):
        resolve_device("cuda")


@pytest.mark.parametrize("spec", ["gpu", "cuda:x", "cuda:-1", "cpu:0", "", "cuda:0:1", "mps"])
def test_other_devices_are_refused(spec):
    with pytest.raises(DeviceError, match="no such device"):
        resolve_device(spec)


@pytest.mark.parametrize(("built_for_cuda", "kind"), [(True, "cuda"), (False, "cpu")])
def test_auto_takes_a_gpu_only_if_torch_can(gpus, monkeypatch, built_for_cuda, kind):
    monkeypatch.setattr(module, "torch_has_cuda", lambda: built_for_cuda)
    assert resolve_device("auto").device.type == kind


def test_auto_without_a_gpu_is_the_cpu(monkeypatch):
    monkeypatch.setattr(module, "torch_has_cuda", lambda: True)
    monkeypatch.setattr(module, "visible_gpus", list)
    assert resolve_device("auto").spec == "cpu"


def test_torchs_build_is_told_as_torch_tells_it():
    import torch

    assert torch_has_cuda() == (torch.version.cuda is not None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cuda: Optional[str] = '12.8'\n", {"torch": "2", "cuda": "12.8"}),
        ("cuda = '13.0'\n", {"torch": "2", "cuda": "13.0"}),
        ("cuda: Optional[str] = None\nhip: Optional[str] = '6.2'\n", {"torch": "2"}),
    ],
)
def test_torchs_version_file_is_understood(tmp_path, monkeypatch, text, expected):
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "version.py").write_text(f"__all__ = ['cuda']\n__version__ = '2'\n{text}")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert torch_build() == expected
    assert torch_has_cuda() is ("cuda" in expected)


@pytest.fixture
def repository(tmp_path):
    def git(*arguments):
        command = ["git", "-c", "user.name=Somebody", "-c", "user.email=somebody@example.org", *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "--quiet", "--message=first")
    return tmp_path, git("rev-parse", "HEAD")


def test_git_tells_the_commit(repository):
    folder, commit = repository
    assert describe_git(folder) == Git(commit, dirty=False)


def test_git_is_dirty_by_tracked_files_alone(repository):
    folder, commit = repository
    (folder / "results.jsonl").touch()
    assert describe_git(folder) == Git(commit, dirty=False)
    (folder / "file").write_text("two")
    assert describe_git(folder) == Git(commit, dirty=True)


def test_outside_of_a_repository_there_is_no_git(tmp_path, monkeypatch):
    assert describe_git(tmp_path) is None
    monkeypatch.setenv("PATH", "")
    assert describe_git() is None
