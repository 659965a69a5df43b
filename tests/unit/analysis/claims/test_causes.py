"""Causes name code that is there, in the libraries that are installed; a claim that surprises has one."""

from __future__ import annotations

from pathlib import Path

import pytest
from causes import CAUSES, FILE, defined, files, names_beside, names_in_files

from lorabench.analysis.claims.curves import mean_loss
from lorabench.analysis.claims.judging import judge
from lorabench.results import read_results

RESULTS = Path(__file__).parents[4] / "results"


@pytest.mark.parametrize("claim", CAUSES)
def test_a_cause_names_functions_that_its_files_have(claim):
    cause = CAUSES[claim]
    assert FILE.search(cause), "no file of a library"
    assert [(name, path) for name, path in names_in_files(cause) if name not in defined(path)] == []
    assert [path for path in files(cause) if not names_beside(cause, path) & defined(path)] == []


def test_what_is_not_there_would_be_seen():
    cause = "Linear.forward and merge() in peft/tuners/lora/layer.py add; so does is_gone in ATen/native/Gone.cpp."
    named = list(names_in_files(cause))
    assert named == [("Linear.forward", "peft/tuners/lora/layer.py"), ("merge", "peft/tuners/lora/layer.py")]
    assert {"Linear.forward", "Linear.merge", "merge", "LoraLayer.update_layer"} <= defined(named[0][1])
    assert not {"LoraLayer.forward", "forward_backward"} & defined(named[0][1])
    assert defined("peft/no/such_file.py") == defined("no_such_library/file.py") == frozenset()
    assert names_beside("It keeps one (ctx.x of MatMul; a/b.py). Not other_name.", "a/b.py") == {"ctx.x", "MatMul"}


@pytest.mark.parametrize("device", ["cpu", "h100", "h200"])
def test_a_claim_that_committed_evidence_does_not_support_has_a_cause(device):
    verdicts = judge([read_results(path) for path in sorted((RESULTS / device).glob("*.jsonl"))])
    open_ = {one.claim.id for one in verdicts if one.finding.verdict in ("conditional", "refuted", "inconclusive")}
    assert open_
    assert open_ <= CAUSES.keys()


@pytest.mark.parametrize(("model", "each_bytes"), [("llama-3.2-1b", 1_675_956_224), ("llama-2-7b", 2_925_400_064)])
def test_bytes_by_batch_size_are_a_line_but_for_slack_as_the_cause_of_the_batch_says(model, each_bytes):
    sizes = {}
    for name in ("scenarios", "large"):
        for record in read_results(RESULTS / "h200" / f"{name}.jsonl").latest():
            asked = {record.scenario, *(also.scenario for also in record.also)}
            if record.case["model"] == model and asked & {"batch-size", "batch-size-7b"}:
                memory = record.memory
                sizes[record.case["batch_size"]] = memory.dynamic_bytes - memory.categories["allocator_slack"]
    assert len(sizes) >= 4
    assert {size: found - sizes[1] for size, found in sizes.items()} == {
        size: (size - 1) * each_bytes for size in sizes
    }


@pytest.mark.parametrize("device", ["cpu", "h200"])
def test_loss_follows_scaling_times_rank_as_the_cause_of_alpha_says(device):
    assert f"results/{device}/learning.jsonl" in CAUSES["alpha-decouples-rank"]
    losses: dict[tuple[int, bool], list[float]] = {}
    for record in read_results(RESULTS / device / "learning.jsonl").latest():
        adapter = record.case["adapter"]
        # rslora: 16 / sqrt(16) x 16. Without scaling: 1 x 64.
        if record.scenario == "alpha" and (adapter["rank"], adapter["alpha"]) in ((16, 16), (64, 64)):
            losses.setdefault((adapter["rank"], adapter["rslora"]), []).append(mean_loss(record))
    stabilised, unscaled = ([sum(losses[name]) / len(losses[name])] for name in ((16, True), (64, False)))
    assert stabilised == pytest.approx(unscaled, rel=0.04)
