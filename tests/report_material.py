"""Synthetic verdicts of every kind, for tests of the report: what it must show whatever the claims find."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorabench.analysis.claims.claim import Claim, Figure, Finding, Verdict
from lorabench.analysis.claims.evidence import Scope

CPU = Scope("cpu", "Imaginary CPU", "measured", models=("llama-tiny", "opt-125m"))
GPU = Scope("cuda", "NVIDIA H100 80GB HBM3", "measured", models=("llama-2-7b",), committed=True)
PREDICTED = Scope("fake", "NVIDIA H100 80GB HBM3", "predicted", models=("llama-2-7b",))
MIB = 2**20


def claim(name: str, chapter: str, title: str, **changes: Any) -> Claim:
    fields: dict[str, Any] = {
        "hypothesis": f"What the guide says of {title.lower()} holds in every case that was run.",
        "method": "Bytes of cases that differ in one setting are compared, exactly.",
        "refuted_by": "A ratio on the other side of the threshold, in any model.",
        "threshold": 1.0,
        "threshold_text": "the ratio's interval lies below 1",
        "unit": "ratio",
        "test": lambda evidence: Finding("not tested", ""),
    }
    return Claim(id=name, chapter=chapter, title=title, **{**fields, **changes})


def verdicts(keys: tuple[str, ...] = (), name: str = "llama-tiny") -> list[Verdict]:
    """All five judgements and all kinds of figure; ``keys`` are the evidence, ``name`` stands in the tables."""
    return [*_memory(keys, name), *_inside(keys, name), *_latency(keys, name)]


def _memory(keys: tuple[str, ...], name: str) -> list[Verdict]:
    rank = claim(
        "rank-sets-width",
        "2",
        "The rank sets the adapter's width",
        figure=Figure("lines", "rank", "adapter_bytes", series="targets", x_label="rank r", log_x=True),
        cause="An adapter has r (in + out) parameters for each layer that it sits on.",
    )
    rank_rows = tuple(
        {"rank": r, "targets": targets, "adapter_bytes": r * width * 4, "expected_bytes": r * width * 4, "equal": True}
        for targets, width in (("q_proj+v_proj", 3_072), ("all-linear", 14_336))
        for r in (1, 2, 4, 8, 16, 64, 256)
    )
    static = claim(
        "int8-cuts-static",
        "3.1, 3.3.1",
        "Loading in 8 bit cuts static memory",
        figure=Figure("bars", "model", "ratio", low="low", high="high", reference=1.0, y_label="int8 / fp16"),
        then="AutoModelForCausalLM.from_pretrained(name, load_in_8bit=True)",
        now="AutoModelForCausalLM.from_pretrained(name, quantization_config=BitsAndBytesConfig(load_in_8bit=True))",
        caveat={"cpu": "What int8 costs in time on a GPU, whose kernels are others."},
    )
    static_rows = tuple(
        {"model": model, "fp16_bytes": fp16, "int8_bytes": int8, "ratio": int8 / fp16, "low": None, "high": None}
        for model, fp16, int8 in ((name, 7_901_952, 5_040_256), ("opt-125m", 250_540_032, 163_000_000))
    )
    batch = claim(
        "dynamic-follows-batch",
        "3.2",
        "Dynamic memory goes with batch size",
        unit="R²",
        figure=Figure("points", "batch_size", "dynamic_bytes", series="model", low="low_bytes", high="high_bytes"),
    )
    batch_rows = tuple(
        {
            "model": model,
            "batch_size": size,
            "dynamic_bytes": size * each * MIB,
            "low_bytes": size * each * MIB - MIB // 2,
            "high_bytes": size * each * MIB + MIB,
        }
        for model, each in ((name, 3), ("opt-125m", 21))
        for size in (1, 2, 4, 8)
    )
    return [
        Verdict(
            rank,
            CPU,
            Finding(
                "supported",
                "In 14 cases the adapter has exactly r (in + out) parameters a layer: 0 bytes of difference.",
                effect=0,
                n=14,
                evidence=keys,
                rows=rank_rows,
            ),
        ),
        Verdict(
            static,
            GPU,
            Finding("supported", "int8 takes 0.52 of fp16's static bytes.", 0.52, (0.51, 0.53), 4, rows=static_rows),
        ),
        Verdict(
            static,
            CPU,
            Finding(
                "conditional",
                f"On {name} int8 takes 0.638 of fp16's static bytes, on opt-125m 0.651: it halves neither.",
                effect=0.644,
                ci95=(0.638, 0.651),
                n=2,
                condition="Embeddings and lm_head, which stay in fp16, are a small part of the model.",
                evidence=keys,
                rows=static_rows,
                p_value=0.00003,
            ),
        ),
        Verdict(static, PREDICTED, Finding("not tested", "The records lack int8.", missing=("int8 cases",))),
        Verdict(
            batch,
            CPU,
            Finding("supported", "A straight line fits with R² 0.9998.", 0.9998, (0.9991, 0.9999), 8, rows=batch_rows),
        ),
    ]


def _inside(keys: tuple[str, ...], name: str) -> list[Verdict]:
    merge = claim("merge-follows-mode", "2, 4.3.2", "A layer merges for inference and unmerges for training")
    identity = claim("starts-as-identity", "4.3", "A fresh LoRA layer changes nothing")
    rows: tuple[Mapping[str, Any], ...] = ({"model": name, "eval": "unmerged", "train": "unmerged", "expected": None},)
    return [
        Verdict(identity, CPU, Finding("not tested", "", missing=("a lifecycle case in fp32", "one in bf16"))),
        Verdict(
            merge,
            CPU,
            Finding("refuted", "Neither eval() nor train() merges in today's PEFT.", n=1, evidence=keys[:1], rows=rows),
        ),
    ]


def _latency(keys: tuple[str, ...], name: str) -> list[Verdict]:
    adds = claim(
        "unmerged-adds-latency",
        "6",
        "Running with LoRA layers adds inference latency",
        figure=Figure("points", "case", "ratio", "phase", "low", "high", reference=1.0, y_label="unmerged / base"),
    )
    rows = tuple(
        {"case": f"{name} {dtype} batch {size}", "phase": phase, "ratio": r, "low": r - 0.04, "high": r + 0.05}
        for dtype, size, r in (("fp16", 1, 1.21), ("fp16", 4, 1.1), ("int8", 1, 1.34), ("int8", 4, 0.99))
        for phase in ("prefill", "decode")
    )
    return [
        Verdict(
            adds,
            CPU,
            Finding(
                "inconclusive",
                "Prefill takes 1.16 times the base's at the median, but the interval spans 1.",
                effect=1.16,
                ci95=(0.95, 1.39),
                n=64,
                evidence=keys,
                rows=rows,
                p_value=0.21,
            ),
        )
    ]
