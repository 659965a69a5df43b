"""The columns of a results frame: what each holds, in which unit, as which pandas dtype."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

TEXT, COUNT, NUMBER, FLAG = "string", "Int64", "float64", "boolean"

PHASES = (
    *("load", "attach", "prepare", "forward", "backward", "optimizer", "prefill", "decode"),
    *("merge", "unmerge", "save", "restore", "load_adapter", "switch", "delete", "unload"),
    *("disabled_forward", "base_forward"),
)
LIBRARIES = ("python", "torch", "transformers", "peft", "bitsandbytes", "cuda")


class Column(NamedTuple):
    """``dtype`` is pandas' name; all but ``float64`` (NaN) say missing as ``pandas.NA``."""

    dtype: str
    description: str


IDENTITY = {
    "key": Column(TEXT, "hash of the settings that decide what is measured"),
    "name": Column(TEXT, "scenario[axis=value,...]"),
    "scenario": Column(TEXT, "the scenario's name"),
    "also": Column(TEXT, "the case's names in other scenarios that ask for it, too, joined with '; '"),
    "group": Column(TEXT, "the group that the case was timed in; missing where it was timed alone"),
    "status": Column(TEXT, "ok, oom, failed, timeout or invalid"),
    "source": Column(TEXT, "measured or predicted"),
    "seed": Column(COUNT, "seed of weights, data and adapters"),
    "repeat": Column(COUNT, "round of repetition, from 0"),
    "started_at": Column(TEXT, "when the case started, ISO 8601"),
    "wall_s": Column(NUMBER, "seconds that the case took, building included"),
    "world_size": Column(COUNT, "processes that ran the case together"),
}
ERROR = {
    "type": Column(TEXT, "why the status is not ok: the exception's type, or the signal"),
    "message": Column(TEXT, "why the status is not ok, in words"),
    "phase": Column(TEXT, "the phase that the case ended in"),
}
DEVICE = {
    "type": Column(TEXT, "cuda, cpu or fake"),
    "name": Column(TEXT, "the hardware's own name"),
    "total_bytes": Column(COUNT, "memory of the device, bytes"),
}
SETTINGS = {
    "task": Column(TEXT, "train, infer or lifecycle"),
    "model": Column(TEXT, "preset, path or hub id"),
    "architecture": Column(TEXT, "digest of the model's architecture"),
    "weights": Column(TEXT, "random or pretrained"),
    "quantization": Column(TEXT, "fp32, fp16, bf16, int8 or nf4"),
    "compute_dtype": Column(TEXT, "dtype of what int8 and nf4 leave unquantized"),
    "int8_threshold": Column(NUMBER, "outlier threshold of LLM.int8(); 0 turns the decomposition off"),
    "double_quantization": Column(FLAG, "whether nf4's scales are quantized too"),
    "kbit_preparation": Column(FLAG, "whether prepare_model_for_kbit_training was called"),
    "autocast": Column(FLAG, "whether the forward pass ran under bf16 autocast"),
    "adapter_state": Column(TEXT, "at inference: base, unmerged or merged"),
    "adapter_count": Column(COUNT, "adapters in a lifecycle case"),
    "gradient_checkpointing": Column(TEXT, "none, reentrant or non-reentrant"),
    "use_cache": Column(FLAG, "whether the key-value cache was on while training"),
    "attention": Column(TEXT, "attention implementation: sdpa, eager or flash_attention_2"),
    "optimizer": Column(TEXT, "adamw, sgd or adamw-8bit"),
    "learning_rate": Column(NUMBER, "the optimizer's learning rate"),
    "data": Column(TEXT, "random token ids or text"),
    "batch_size": Column(COUNT, "sequences in a batch"),
    "sequence_length": Column(COUNT, "tokens in a sequence, padding included"),
    "padding": Column(NUMBER, "share of padded positions, 0 to 1"),
    "new_tokens": Column(COUNT, "tokens decoded for each sequence at inference"),
}
ADAPTER = {
    "rank": Column(COUNT, "rank r of the adapter; missing without one, as all adapter columns"),
    "alpha": Column(NUMBER, "numerator of the adapter's scaling"),
    "dropout": Column(NUMBER, "dropout probability on the adapter's input"),
    "target_modules": Column(TEXT, "adapted modules, joined with +"),
    "bias": Column(TEXT, "which biases train: none, all or lora_only"),
    "task_type": Column(TEXT, "PEFT's task type"),
    "rslora": Column(FLAG, "whether the scaling is rank-stabilised, alpha / sqrt(r)"),
    "autocast_adapter_dtype": Column(FLAG, "whether PEFT keeps half-precision adapters in fp32"),
    "options": Column(TEXT, "other options of LoraConfig, as JSON"),
}
PROOF = {
    "trainable_parameters": Column(COUNT, "parameters that require gradients, counted"),
    "total_parameters": Column(COUNT, "all parameters, counted as they are before quantization packs them"),
    "quantized_modules": Column(COUNT, "modules with quantized weights, counted"),
    "quantization_backend": Column(TEXT, "kernels that the quantized modules ran on"),
    "adapter_modules": Column(COUNT, "modules with an adapter, counted"),
    "layers": Column(COUNT, "layers of the model, counted"),
    "checkpointed_layers": Column(COUNT, "layers with gradient checkpointing on, counted"),
    "layer_forward_calls_per_step": Column(NUMBER, "forward calls of one layer in a step, counted"),
}
MEMORY = {
    "static_bytes": Column(COUNT, "bytes before the first step: weights, quantization state, adapters"),
    "dynamic_bytes": Column(COUNT, "bytes of the peak beyond the static ones"),
    "peak_allocated_bytes": Column(COUNT, "highest bytes allocated in a steady step"),
    "peak_reserved_bytes": Column(COUNT, "highest bytes that the caching allocator held; missing on a CPU"),
    "device_used_bytes": Column(COUNT, "bytes that the driver saw the process hold; missing on a CPU"),
    "unattributed_bytes": Column(COUNT, "bytes at the peak that belong to no category"),
}
TIMING = {
    "median_s": Column(NUMBER, "median seconds of {}"),
    "ci95_low_s": Column(NUMBER, "lower end of the 95% interval of the median seconds of {}"),
    "ci95_high_s": Column(NUMBER, "upper end of the 95% interval of the median seconds of {}"),
    "unstable": Column(FLAG, "whether the samples of {} drift, spread or jump"),
    "samples": Column(COUNT, "timed samples of {}"),
}


def _prefixed(prefix: str, columns: Mapping[str, Column]) -> dict[str, Column]:
    return {f"{prefix}_{name}": column for name, column in columns.items()}


COLUMNS: Mapping[str, Column] = {
    **IDENTITY,
    **_prefixed("error", ERROR),
    **_prefixed("device", DEVICE),
    "driver": Column(TEXT, "version of the GPU driver; missing on a CPU"),
    "environment": Column(TEXT, "id of the environment that the record was made in"),
    "lorabench_version": Column(TEXT, "version of lorabench that made the record"),
    **{f"{library}_version": Column(TEXT, f"version of {library}") for library in LIBRARIES},
    **SETTINGS,
    **_prefixed("adapter", ADAPTER),
    **PROOF,
    **_prefixed("memory", MEMORY),
    **{
        f"memory_{phase}_peak_bytes": Column(COUNT, f"highest bytes allocated in the phase {phase}")
        for phase in ("step", *PHASES)
    },
    **{
        f"{phase}_{name}": Column(
            column.dtype, column.description.format(phase if phase == "step" else f"{phase} alone")
        )
        for phase in ("step", *PHASES)
        for name, column in TIMING.items()
    },
    "tokens_per_s": Column(NUMBER, "tokens a second: of the batch in a training step, of new tokens while decoding"),
}
"""Every column that :func:`lorabench.load` gives, in order."""
