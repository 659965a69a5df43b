"""Adapters in files: saved alone, restored into a model, loaded beside others; and what such a file must come to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, load_peft_weights, set_peft_model_state_dict
from safetensors import safe_open
from transformers import PreTrainedModel

from lorabench.case import Adapter, Case
from lorabench.model.expectation import in_and_out, matches, rank_of, target_modules, whole_modules
from lorabench.model.quantization import weight_dtype

FILE = "adapter_model.safetensors"
DEFAULT = "default"
"""PEFT's name for the adapter that ``get_peft_model`` attaches."""

Shapes = Mapping[str, tuple[tuple[int, ...], torch.dtype]]

# The names of safetensors' format, in the order of its serializer: the dtypes of its enumeration from the last to the
# first (safetensors/src/tensor.rs, `prepare` and `Dtype`).
_FORMAT_NAMES = {
    torch.int64: "I64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_ORDER = {dtype: position for position, dtype in enumerate(_FORMAT_NAMES)}
# Options that add no tensor to the two of each layer, or only whole modules, which are counted.
_PLAIN_OPTIONS = frozenset(
    {"rank_pattern", "alpha_pattern", "modules_to_save", "exclude_modules", "layers_to_transform", "init_lora_weights"}
)


def save(model: PeftModel, folder: Path) -> None:
    """``save_pretrained``: the adapter ``default`` alone, as a folder that PEFT loads again."""
    model.save_pretrained(str(folder), selected_adapters=[DEFAULT])


def restore(model: PeftModel, folder: Path, device: torch.device) -> None:
    """``set_peft_model_state_dict``: what :func:`save` wrote, into a model that has such an adapter attached."""
    weights = load_peft_weights(str(folder), device=str(device))
    set_peft_model_state_dict(model, weights)


def load(model: PeftModel, folder: Path, name: str, case: Case, device: torch.device) -> None:
    """``load_adapter``: what :func:`save` wrote, as a further adapter of its own name, not active yet."""
    assert case.adapter is not None
    autocast = case.adapter.autocast_adapter_dtype
    # Without a device PEFT takes the first accelerator that it finds, whatever the model lies on.
    model.load_adapter(str(folder), name, torch_device=str(device), autocast_adapter_dtype=autocast)


def keys(folder: Path) -> list[str]:
    """Names of the tensors in the adapter's file."""
    with safe_open(folder / FILE, framework="pt") as file:
        return list(file.keys())


def file_bytes(folder: Path) -> int:
    """Bytes of all weight files that a ``save_pretrained`` wrote into ``folder``."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def expected_shapes(base: PreTrainedModel, case: Case) -> Shapes | None:
    """Names, shapes and dtypes of the tensors that the adapter's file must hold and no other, from the bare model.

    A of r x in and B of out x r for each target; the biases that train, under the names that they have beneath PEFT's
    layers; the heads that train. None where an option of PEFT, or a targeted embedding, makes it unknown here.
    """
    adapter = case.adapter
    targets = target_modules(base, case)
    if adapter is None or not _PLAIN_OPTIONS.issuperset(adapter.options):
        return None
    if any(isinstance(module, torch.nn.Embedding) for module in targets.values()):
        return None
    dtype = adapter_dtype(case)
    shapes: dict[str, tuple[tuple[int, ...], torch.dtype]] = {}
    for name, module in targets.items():
        ingoing, outgoing = in_and_out(module)
        rank = rank_of(name, adapter)
        shapes[f"base_model.model.{name}.lora_A.weight"] = (rank, ingoing), dtype
        shapes[f"base_model.model.{name}.lora_B.weight"] = (outgoing, rank), dtype
    whole = whole_modules(case)
    for name, weight in base.named_parameters():
        layer = name.rpartition(".")[0]
        if matches(layer, whole):
            shapes[f"base_model.model.{name}"] = tuple(weight.shape), weight.dtype
        elif name.endswith(".bias") and _bias_trains(adapter, layer in targets):
            beneath = f"{layer}.base_layer.bias" if layer in targets else name
            shapes[f"base_model.model.{beneath}"] = tuple(weight.shape), weight.dtype
    return shapes


def adapter_dtype(case: Case) -> torch.dtype:
    """What PEFT keeps A and B in: fp32, or without ``autocast_adapter_dtype`` a floating base weight's dtype."""
    assert case.adapter is not None
    own_dtype = case.adapter.autocast_adapter_dtype is False and case.quantization != "int8"
    return weight_dtype(case) if own_dtype else torch.float32


def safetensors_bytes(shapes: Shapes) -> int:
    """Bytes of a safetensors file of these tensors as PEFT and transformers write it.

    Eight bytes for the header's length, the header in JSON, spaces up to a multiple of eight, and the tensors' bytes
    (https://github.com/huggingface/safetensors, "Format").
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (shape, dtype) in sorted(shapes.items(), key=lambda item: (_ORDER[item[1][1]], item[0])):
        start, end = end, end + torch.Size(shape).numel() * dtype.itemsize
        header[name] = {"dtype": _FORMAT_NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return 8 + -(-len(text) // 8) * 8 + end


def state_shapes(model: torch.nn.Module) -> Shapes:
    """The tensors of the model's whole state as a checkpoint has them: what shares storage is written once."""
    return dict(_distinct(model.state_dict().items()))


def _distinct(state: Iterable[tuple[str, Any]]) -> Iterable[tuple[str, tuple[tuple[int, ...], torch.dtype]]]:
    seen = set()
    for name, value in state:
        if isinstance(value, torch.Tensor):
            place = (value.untyped_storage()._cdata, value.storage_offset(), value.shape)
            if place not in seen:
                seen.add(place)
                yield name, (tuple(value.shape), value.dtype)


def _bias_trains(adapter: Adapter, is_target: bool) -> bool:
    return adapter.bias == "all" or (adapter.bias == "lora_only" and is_target)
