"""Training records as the workload writes them, for tests of the claims of chapters 2 and 3."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lives import timing

from lorabench.analysis.claims.shapes import adapter_parameters, shapes
from lorabench.case import Adapter
from lorabench.record import Gradients, Memory, PhaseMemory, Proof, Record

Make = Callable[..., Record]
MIB = 1 << 20


def training(
    make_record: Make,
    *,
    adapter: Mapping[str, Any] | None = None,
    static: int | None = None,
    dynamic: int = 10 * MIB,
    proof: Mapping[str, Any] | None = None,
    seconds: Sequence[float] = (),
    observations: Mapping[str, Any] | None = None,
    **case: Any,
) -> Record:
    """A training record whose counts and bytes are those of its model's published shapes, unless told otherwise.

    Of no preset's task heads: they are added in the tests that need them. ``seconds`` are the step's samples, a round
    each.
    """
    settings = {"model": "llama-tiny", "quantization": "fp32", "axes": (), **case}
    lora = Adapter(**{"rank": 8, **(adapter or {})})
    found = shapes(settings["model"])
    layers = found.targets(lora.target_modules) or ()
    trainable = adapter_parameters(layers, lora.rank)
    quantization = settings["quantization"]
    prepared = settings.get("kbit_preparation", False)
    weights = found.weight_bytes(quantization, prepared=prepared)
    if quantization in ("int8", "nf4"):
        packed = found.quantized if quantization == "int8" else found.quantized // 2
        dtypes = {"int8": packed, "bfloat16": found.kept * (4 if prepared else 2), "float32": 4 * trainable}
    else:
        dtypes = {"float32": weights + 4 * trainable}
    tensors = 2 * sum(layer.copies for layer in layers)
    is_checkpointed = settings.get("gradient_checkpointing", "none") != "none"
    counted = {
        "trainable_parameters": trainable,
        "total_parameters": found.parameters + trainable,
        "adapter_modules": tensors // 2,
        "layers": 4,
        "layer_forward_calls_per_step": 2.0 if is_checkpointed else 1.0,
        "adapter_gradients": Gradients(tensors, tensors, tensors),
        "parameter_dtypes": dtypes,
        "optimizer_state_dtypes": {"float32": 8 * trainable},
        "adapter_dropout": lora.dropout,
        **(proof or {}),
    }
    static = weights + 4 * trainable if static is None else static
    before = static + 8 * trainable
    phases = {
        "forward": PhaseMemory(before, static + dynamic, static + dynamic),
        "backward": PhaseMemory(static + dynamic, static + dynamic, before + 4 * trainable),
    }
    return make_record(
        case={**settings, "adapter": lora},
        proof=Proof(**counted),
        memory=Memory(static, dynamic, static + dynamic, phases=phases),
        latency={"step": timing(*seconds)} if seconds else {},
        observations={"turn_steps": 1, **(observations or {})},
    )


def without_memory(record: Record) -> Record:
    return replace(record, memory=None)


def around(center: float, spread: float = 0.001, n: int = 12) -> tuple[float, ...]:
    """Samples spread evenly over ``center`` +- ``spread`` of it, in an order that is none."""
    steps = [((7 * index) % n) / (n - 1) * 2 - 1 for index in range(n)]
    return tuple(center * (1 + spread * step) for step in steps)
