"""Records of lifecycle and inference cases as the workloads write them, for tests of claims."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lorabench.analysis.claims.evidence import Evidence, Scope
from lorabench.case import Adapter
from lorabench.record import Gradients, Memory, PhaseMemory, Proof, Record, RecordDevice, Timing

Make = Callable[..., Record]

LIFE: Mapping[str, Any] = {
    "modules": {"replaced": 8, "expected": 8, "unexpected": [], "missing": []},
    "trainable": {"lora": 4096, "bias": 0, "head": 0, "other": 0},
    "identity": {"equal_before_step": True, "max_abs_before": 0.0, "equal_after_step": False, "max_abs_after": 0.25},
    "base_unchanged": True,
    "modes": {"merged_after_eval": False, "merged_after_train": True, "merge_weights_argument": False},
    "merge": {
        "weights_equal": False,
        "weights_max_abs": 1e-8,
        "weights_relative": 2e-8,
        "outputs_max_abs": 1e-6,
        "outputs_relative": 6e-7,
    },
    "save": {"keys": 16, "other_keys": [], "file_bytes": 1000, "expected_bytes": 1000, "full_file_bytes": 100_000},
    "restore": {"equal": True, "max_abs": 0.0},
    "merged_save": {"file_bytes": 100_000, "outputs_equal": True, "outputs_relative": 0.0},
    "adapters": {
        "count": 1,
        "bytes_each": [4096],
        "expected_bytes": 4096,
        "equal_alone": True,
        "load_s": [0.010],
    },
    "switch": {"follows": True},
    "disable": {
        "equal_inside": True,
        "max_abs_inside": 0.0,
        "equal_after": True,
        "merged_equal_inside": True,
        "merged_max_abs_inside": 0.0,
    },
    "unload": {
        "lora_modules_left": 0,
        "bytes_over_base": 0,
        "outputs_equal_merged": True,
        "outputs_max_abs_merged": 0.0,
    },
    "delete": {"adapters_left": 1, "bytes_back": 4096},
}
"""A life in which all goes as the guide says but for modes, which today's PEFT ignores."""

_TIMED = (
    *("attach", "merge", "unmerge", "save", "restore", "load_adapter", "switch", "unload"),
    *("forward", "disabled_forward", "base_forward"),
)


def timing(*samples_s: float) -> Timing:
    middle = sorted(samples_s)[len(samples_s) // 2]
    return Timing(tuple(samples_s), middle, (min(samples_s), max(samples_s)), unstable=False)


def life(make_record: Make, changes: Mapping[str, Any] | None = None, **case: Any) -> Record:
    """A lifecycle record; ``changes`` replace values of :data:`LIFE` under dotted names, None removes a part."""
    observed = copy.deepcopy(dict(LIFE))
    observed["adapters"]["count"] = case.get("adapter_count", 1)
    for path, value in (changes or {}).items():
        part, _, name = path.partition(".")
        if name:
            observed[part][name] = value
        elif value is None:
            del observed[part]
        else:
            observed[part] = value
    adapter = Adapter(**{"rank": 8, **case.pop("adapter", {})})
    settings = {"scenario": "lifecycle", "task": "lifecycle", "quantization": "fp32", "axes": (), "adapter": adapter}
    device = case.pop("device", RecordDevice("cpu", "Imaginary CPU"))
    return make_record(
        case={**settings, **case},
        device=device,
        observations={"lifecycle": observed},
        latency={phase: timing(0.010, 0.011, 0.012) for phase in _TIMED},
        memory=Memory(static_bytes=1 << 20, phases={"merge": PhaseMemory(1 << 20, 3 << 20, 1 << 20)}),
        proof=Proof(adapter_modules=8),
    )


def trained(make_record: Make, arrived: int = 16, *, expected: int = 16, unchanged: bool = True, **more: Any) -> Record:
    """A training record that tells of its gradients and of the base's weights."""
    trainable = {"lora": 4096, "bias": 0, "head": 0, "other": 0}
    return make_record(
        case={"adapter": Adapter(rank=8), "axes": (), **more.pop("case", {})},
        proof=Proof(adapter_modules=8, adapter_gradients=Gradients(expected, arrived, arrived)),
        observations={"training": {"base_unchanged": unchanged, "trainable": trainable}},
        **more,
    )


def arms(
    make_record: Make,
    times: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    grouped: bool = True,
    **case: Any,
) -> list[Record]:
    """Inference records of one base, timed in turn: samples of prefill and of decode for each state, a round each."""
    name = ",".join(f"{key}={value}" for key, value in case.items())
    return [
        make_record(
            case={
                "scenario": "adapter-state",
                "task": "infer",
                "adapter_state": state,
                "axes": (("adapter_state", state),),
                "adapter": Adapter(**{"rank": 8, **case.get("adapter", {})}),
                "group": f"adapter-state[{name}]" if grouped else None,
                **{key: value for key, value in case.items() if key != "adapter"},
            },
            latency={"prefill": timing(*prefill), "decode": timing(*decode)},
            observations={"output_difference": {"unmerged": {"relative": 0.01}}, "turn_steps": 1},
        )
        for state, (prefill, decode) in times.items()
    ]


def evidence(*records: Record, others: Sequence[Record] = ()) -> Evidence:
    return Evidence(Scope("cpu", "Imaginary CPU", "measured"), tuple(records), tuple(others))
