"""Proof: what was really built and run, counted, and compared with what the case asked for."""

from __future__ import annotations

from collections import Counter

import torch
from peft.tuners.lora import LoraLayer
from torch import nn

from lorabench.case import Case
from lorabench.errors import InvalidCaseError
from lorabench.model.expectation import Expected, expect
from lorabench.model.observation import EAGER, StepObservation, layers_of, observe_step, trains
from lorabench.model.outliers import assumed_shares
from lorabench.model.quantization import DTYPES, backend, is_quantized
from lorabench.record import Proof

__all__ = ["Expected", "StepObservation", "check", "count", "expect", "observe_step"]


def count(
    model: nn.Module,
    case: Case,
    torch_device: torch.device,
    seen: StepObservation | None = None,
    optimizer: torch.optim.Optimizer | None = None,
) -> Proof:
    """The proof of a built model, with what a step and an optimizer add to it where they are given.

    ``parameter_dtypes`` and ``optimizer_state_dtypes`` are bytes of distinct storages by dtype.
    """
    layers = layers_of(model)
    calls = list(seen.layer_forward_calls.values()) if seen else []
    dropouts = [
        layer.p
        for module in model.modules()
        if isinstance(module, LoraLayer)
        for layer in module.lora_dropout.values()
        if isinstance(layer, nn.Dropout)
    ]
    trainable, total = _parameter_counts(model)
    return Proof(
        quantized_modules=sum(map(is_quantized, model.modules())),
        quantization_backend=backend(case, torch_device),
        trainable_parameters=trainable,
        total_parameters=total,
        adapter_modules=sum(isinstance(module, LoraLayer) for module in model.modules()),
        checkpointed_layers=sum(_is_checkpointed(layer) for layer in layers.values()),
        layers=len(layers),
        layer_forward_calls_per_step=sum(calls) / len(calls) if calls else None,
        adapter_gradients=seen.adapter_gradients if seen else None,
        parameter_dtypes=_bytes_by_dtype(list(model.parameters())),
        optimizer_state_dtypes=_optimizer_dtypes(optimizer) if optimizer else {},
        attention_kernels=seen.attention_kernels if seen else (),
        outlier_share=dict(seen.outlier_share) if seen else assumed_shares(model),
        seeds={"torch": case.seed},
        training=model.training,
        adapter_dropout=max(dropouts, default=0.0),
    )


def check(case: Case, proof: Proof, expected: Expected, device_type: str) -> None:
    """Compare ``proof`` with what ``case`` asked for.

    Raises:
        InvalidCaseError: what ran is something else; its text is one line with all differences.
    """
    reasons = [
        *_quantization_differences(case, proof, expected, device_type),
        *_adapter_differences(case, proof, expected),
        *_gradient_differences(proof, expected),
        *_step_differences(case, proof, expected),
        *_optimizer_differences(case, proof),
    ]
    if reasons:
        raise InvalidCaseError("; ".join(reasons))


def _quantization_differences(case: Case, proof: Proof, expected: Expected, device_type: str) -> list[str]:
    # Fake tensors have no packed weights to look at.
    if device_type != "fake" and proof.quantized_modules != expected.quantized_modules:
        return [
            f"{case.quantization} asked, and {proof.quantized_modules} of {expected.quantized_modules} "
            "linear layers are quantized"
        ]
    if device_type == "cuda" and proof.quantization_backend not in (None, "cuda"):
        return [f"{case.quantization} runs on bitsandbytes' {proof.quantization_backend} kernels instead of CUDA's"]
    half_bytes = sum(proof.parameter_dtypes.get(dtype, 0) for dtype in ("bfloat16", "float16"))
    if case.kbit_preparation and half_bytes:
        return [f"kbit_preparation asked, and {half_bytes} bytes of parameters are still in 16 bits"]
    dense = DTYPES.get(case.quantization)
    if dense is not None and str(dense).removeprefix("torch.") not in proof.parameter_dtypes:
        return [f"{case.quantization} asked, and parameters are {', '.join(sorted(proof.parameter_dtypes))}"]
    return []


def _adapter_differences(case: Case, proof: Proof, expected: Expected) -> list[str]:
    reasons = []
    if expected.adapter_modules is not None and proof.adapter_modules != expected.adapter_modules:
        reasons.append(f"{proof.adapter_modules} layers have an adapter instead of {expected.adapter_modules}")
    if not trains(case):
        return reasons
    if expected.trainable_parameters is not None and proof.trainable_parameters != expected.trainable_parameters:
        reasons.append(
            f"{proof.trainable_parameters} parameters are trainable instead of {expected.trainable_parameters}"
        )
    if case.adapter is not None and proof.adapter_dropout != case.adapter.dropout:
        reasons.append(f"dropout is {proof.adapter_dropout} instead of {case.adapter.dropout}")
    return reasons


def _gradient_differences(proof: Proof, expected: Expected) -> list[str]:
    gradients = proof.adapter_gradients
    if gradients is None:
        return []
    reasons = []
    if expected.adapter_tensors is not None and gradients.expected != expected.adapter_tensors:
        reasons.append(f"{gradients.expected} adapter tensors train instead of {expected.adapter_tensors}")
    if gradients.arrived < gradients.expected:
        reasons.append(f"{gradients.arrived} of {gradients.expected} adapter gradients arrived")
    elif gradients.nonzero < gradients.expected:
        zero = gradients.expected - gradients.nonzero
        reasons.append(f"{zero} of {gradients.expected} adapter gradients are all zero")
    return reasons


def _step_differences(case: Case, proof: Proof, expected: Expected) -> list[str]:
    reasons = []
    if proof.training != trains(case):
        reasons.append(f"the model is in {'train' if proof.training else 'eval'} mode in a case that {case.task}s")
    if proof.layers != expected.layers:
        reasons.append(f"{proof.layers} layers instead of {expected.layers}")
    checkpointing = case.task == "train" and case.gradient_checkpointing != "none"
    if proof.checkpointed_layers != (proof.layers if checkpointing else 0):
        reasons.append(
            f"gradient_checkpointing {case.gradient_checkpointing} asked, and it is on in "
            f"{proof.checkpointed_layers} of {proof.layers} layers"
        )
    calls = proof.layer_forward_calls_per_step
    if trains(case) and calls is not None and calls != (2 if checkpointing else 1):
        reasons.append(
            f"gradient_checkpointing {case.gradient_checkpointing} asked, and a layer runs forward "
            f"{calls:g} times a step instead of {2 if checkpointing else 1}"
        )
    return reasons + _attention_differences(case, proof)


def _attention_differences(case: Case, proof: Proof) -> list[str]:
    kernels = proof.attention_kernels
    if not kernels:
        return []
    is_sdpa = all(kernel.startswith("_scaled_dot_product_") for kernel in kernels)
    is_flash = all("flash_attn" in kernel for kernel in kernels)
    fits = {"eager": kernels == (EAGER,), "sdpa": is_sdpa, "flash_attention_2": is_flash}
    return [] if fits[case.attention] else [f"attention {case.attention} asked, and {', '.join(kernels)} ran"]


def _optimizer_differences(case: Case, proof: Proof) -> list[str]:
    held = proof.optimizer_state_dtypes
    if case.task == "train" and case.optimizer == "adamw-8bit" and held and "uint8" not in held:
        return ["adamw-8bit asked, and no optimizer state is in 8 bits (tensors under 4096 elements keep fp32)"]
    return []


def _parameter_counts(model: nn.Module) -> tuple[int, int]:
    """Trainable and all parameters; 4-bit weights count as the numbers that they hold, not as their bytes."""
    trainable = total = 0
    for parameter in model.parameters():
        packed_state = getattr(parameter, "quant_state", None)
        numbers = parameter.numel() if packed_state is None else packed_state.shape.numel()
        total += numbers
        trainable += numbers if parameter.requires_grad else 0
    return trainable, total


def _is_checkpointed(layer: nn.Module) -> bool:
    return bool(layer.gradient_checkpointing) and layer.training


def _optimizer_dtypes(optimizer: torch.optim.Optimizer) -> dict[str, int]:
    # Step counters are single numbers; quantization maps are shared by all states.
    states = [value for state in optimizer.state.values() for value in state.values()]
    return _bytes_by_dtype([value for value in states if isinstance(value, torch.Tensor) and value.dim() > 0])


def _bytes_by_dtype(tensors: list[torch.Tensor] | list[nn.Parameter]) -> dict[str, int]:
    distinct = {tensor.untyped_storage()._cdata: tensor for tensor in tensors}
    held: Counter[str] = Counter()
    for tensor in distinct.values():
        held[str(tensor.dtype).removeprefix("torch.")] += tensor.untyped_storage().nbytes()
    return dict(held)
