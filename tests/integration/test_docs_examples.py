"""What the pages of ``docs/`` show, run for real."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import lorabench_in
from documents import ROOT, blocks, commands, inline_code, program
from in_process import NO_PHASES

from lorabench.analysis.claims.shapes import shapes
from lorabench.case import Case
from lorabench.device.cpu import CpuDevice
from lorabench.device.protocol import Device
from lorabench.workload.training import Training

DOCS = ROOT / "docs"
TINY = Case(scenario="tiny", task="train", model="llama-tiny", quantization="fp32", sequence_length=16)


def printed_by(page: Path) -> list[str]:
    """The lines that a page's program prints, run in the repository's folder as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", program(page)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def trained_parameters(workload: Training) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in workload.model.parameters() if parameter.requires_grad]


def test_the_step_that_is_shown_is_the_step():
    page = DOCS / "measurement.md"
    namespace: dict[str, Any] = {}
    exec(program(page), namespace)
    ours, shown = (Training(TINY, CpuDevice()) for _ in range(2))
    for workload in (ours, shown):
        workload.build(NO_PHASES)
        workload.start()
    before = trained_parameters(ours)
    for _ in range(2):
        ours.step(NO_PHASES)
        namespace["step"](shown.model, shown.optimizer, ours._inputs["input_ids"])
    after = trained_parameters(ours)
    assert not all(map(torch.equal, before, after))
    assert all(map(torch.equal, after, trained_parameters(shown)))


def test_the_prediction_is_that_of_the_models_weights():
    static_bytes, dynamic_bytes = map(int, printed_by(DOCS / "prediction.md")[-1].split())
    # Blocks are whole multiples of 512 bytes, and the adapter comes on top.
    weights = shapes("llama-tiny").weight_bytes("fp16")
    assert weights < static_bytes < 1.1 * weights
    assert dynamic_bytes > 0


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the kernel resets no peak of pages")
def test_the_device_measures_a_case():
    *phases, last = printed_by(DOCS / "devices.md")
    static_bytes, dynamic_bytes, *samples_s = json.loads(f"[{re.sub(r'[][,]', '', last).replace(' ', ',')}]")
    assert {"load", "attach", "forward", "backward", "optimizer", "warm-up"} <= set(phases)
    # Pages that were there before may be used again.
    assert static_bytes > 0.9 * shapes("llama-tiny").weight_bytes("fp32")
    assert dynamic_bytes > 0
    assert len(samples_s) == 4
    assert all(seconds > 0 for seconds in samples_s)


def test_the_device_answers_every_question():
    namespace: dict[str, Any] = {}
    exec(blocks(DOCS / "devices.md", "python")[0].text, namespace)
    device = namespace["ResidentDevice"]()
    questions = [name for name in vars(Device) if not name.startswith("_")]
    assert len(questions) > 10
    assert [name for name in questions if not hasattr(device, name)] == []


@pytest.mark.slow
def test_the_first_scenario_runs_as_shown(tmp_path):
    page = DOCS / "scenarios.md"
    (tmp_path / "first.yaml").write_text(blocks(page, "yaml")[0].text)
    for [_, *arguments] in commands(blocks(page, "bash")[0]):
        done = lorabench_in(tmp_path, *arguments)
        assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for file in (tmp_path / "results").iterdir() for line in file.read_text().splitlines()]
    records = {line["source"]: line for line in lines if line["type"] == "record"}
    assert {name: record["case"]["model"] for name, record in records.items()} == {
        "measured": "llama-tiny",
        "predicted": "llama-2-7b",
    }
    assert_has_what_is_told(records["measured"])


def assert_has_what_is_told(record: dict[str, Any]) -> None:
    """A measured record has what docs/measurement.md says of observations, those of a GPU or of a group left out."""
    told = {text.split(".")[1] for text in inline_code(DOCS / "measurement.md") if text.startswith("observations.")}
    of_gpu_or_group = {"device", "device_used_of", "launch_bound", "turn_steps"}
    assert told == {"stages_s", "work", "ceilings"} | of_gpu_or_group
    assert set(record["observations"]) >= told - of_gpu_or_group
    assert (
        record["memory"]["peak_allocated_bytes"]
        == sum(record["memory"]["categories"].values()) + (record["memory"]["unattributed_bytes"])
    )
    assert record["memory"]["dynamic_bytes"] == (
        record["memory"]["peak_allocated_bytes"] - record["memory"]["static_bytes"]
    )
    assert set(record["observations"]["stages_s"]) >= {"build", "memory", "attribution", "proof", "timing", "work"}
