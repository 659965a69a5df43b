"""The plugin from its entry point, in a process of its own, with a prediction that really runs."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

SCENARIO = """\
scenario: step
question: What does a step hold?
task: train
model: llama-tiny
sequence_length: 64
"""
TEST = """\
import sys

def test_step(lora_gate):
    settings = {"adapter.rank": 2, "quantization": "fp16"}
    (record,) = lora_gate.check("step.yaml", gpu="L4", set=settings, max_peak_mib=4000)
    assert record.case["adapter"]["rank"] == 2
    assert record.device.name == "NVIDIA L4"
    assert "torch" not in sys.modules
"""


def test_a_librarys_test_predicts_a_step(pytester: pytest.Pytester) -> None:
    (pytester.path / "step.yaml").write_text(SCENARIO)
    pytester.makepyfile(TEST)
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
