"""What people use instead of a prediction, for the same case: accelerate's estimate, the usual arithmetic, MemTracker.

Their numbers are for a comparison beside the prediction and the measurement, each as its users would get it. None of
them knows CUDA's allocator or libraries; each function says what else it leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from accelerate.commands.estimate import estimate_training_usage
from accelerate.utils.modeling import calculate_maximum_sizes
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker

from lorabench.case import Case
from lorabench.device.cuda_path import as_on_cuda
from lorabench.device.fake import FakeDevice
from lorabench.measure.phases import UnobservedPhases
from lorabench.model.build import build_skeleton
from lorabench.model.expectation import expect
from lorabench.model.observation import layers_of
from lorabench.workload.training import Training

_WEIGHT_BITS = {"fp32": 32, "fp16": 16, "bf16": 16, "int8": 8, "nf4": 4}
_TRAINED_BYTES = 4
_OPTIMIZER_BYTES = {"adamw": 8, "adamw-8bit": 2, "sgd": 0}
_ACCELERATE_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_ACCELERATE_DIVISORS = {"fp32": 1, "fp16": 2, "bf16": 2, "int8": 4, "nf4": 8}
_STEPS = 2
"""The first makes the optimizer's state; the second has it from the beginning."""


class _NoHook:
    """In place of a hook's handle where no hook is."""

    def remove(self) -> None: ...


_NO_HOOK: Any = _NoHook()


@dataclass(frozen=True)
class Accelerate:
    """``accelerate estimate-memory``: the model's total size, and training all of it with Adam; None where it has none.

    It knows neither adapters nor activations, and gives no number for training in int8 or 4 bits.
    """

    total_bytes: int
    training_bytes: int | None


@dataclass(frozen=True)
class Arithmetic:
    """Parameters x bytes and the activations of Korthikanti et al.; the sum is ``peak_bytes``."""

    weights_bytes: int
    trained_bytes: int
    activations_bytes: int

    @property
    def peak_bytes(self) -> int:
        return self.weights_bytes + self.trained_bytes + self.activations_bytes


def estimates(case: Case, *, trust_remote_code: bool = False) -> dict[str, dict[str, Any]]:
    """The observation ``estimates``: of each method ``peak_bytes``, with its parts, or ``absent``, the reason why not.

    ``accelerate_weights`` is accelerate's total size, ``accelerate_training`` its training with Adam. A method that
    fails is absent with its error: nobody's case fails for it.
    """

    def of_accelerate() -> dict[str, Any]:
        return asdict(accelerate_estimate(case, trust_remote_code=trust_remote_code))

    def of_weights() -> Mapping[str, Any]:
        return {"peak_bytes": of_accelerate()["total_bytes"]}

    def of_training() -> Mapping[str, Any]:
        if case.task != "train":
            return {"absent": "for training only"}
        peak = of_accelerate()["training_bytes"]
        return {"absent": f"no number for training in {case.quantization}"} if peak is None else {"peak_bytes": peak}

    def of_tracker() -> Mapping[str, Any]:
        if case.task != "train":
            return {"absent": "for a training step only"}
        return {"peak_bytes": memory_tracker_peak(case, trust_remote_code=trust_remote_code)}

    def of_arithmetic() -> Mapping[str, Any]:
        found = arithmetic(case, trust_remote_code=trust_remote_code)
        return {"peak_bytes": found.peak_bytes, **asdict(found)}

    methods: dict[str, Callable[[], Mapping[str, Any]]] = {
        "accelerate_weights": of_weights,
        "accelerate_training": of_training,
        "memory_tracker": of_tracker,
        "arithmetic": of_arithmetic,
    }
    return {name: _tried(method) for name, method in methods.items()}


def _tried(method: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    try:
        return dict(method())
    except Exception as fault:
        return {"absent": f"{type(fault).__name__}: {' '.join(str(fault).split())}"}


def accelerate_estimate(case: Case, *, trust_remote_code: bool = False) -> Accelerate:
    """What ``gather_data`` of accelerate/commands/estimate.py makes of the model: in fp32, without an adapter."""
    model = build_skeleton(replace(case, quantization="fp32"), trust_remote_code=trust_remote_code)
    total = int(calculate_maximum_sizes(model)[0])
    dtype = _ACCELERATE_DTYPES.get(case.quantization)
    usage = max(estimate_training_usage(total, dtype).values()) if dtype else None
    return Accelerate(total // _ACCELERATE_DIVISORS[case.quantization], usage)


def arithmetic(case: Case, *, trust_remote_code: bool = False) -> Arithmetic:
    """Weights, what training needs for each trained parameter, and activations, all from the architecture's numbers.

    A trained parameter costs fp32 weights, gradients and AdamW's two moments: 16 bytes (Rajbhandari et al. 2020,
    "ZeRO", section 3.1, count 16 for mixed precision too). The activations of a layer are ``s b h (34 + 5 a s / h)``
    bytes in 16 bits, with sequence s, batch b, width h and a heads (Korthikanti et al. 2022, "Reducing Activation
    Recomputation in Large Transformer Models", equation 1); ``34 s b h`` where attention's scores are not kept (section
    5), and ``2 s b h`` where layers are recomputed (table 2). Logits, loss, and all that differs from GPT-3's layer are
    left out.
    """
    model = build_skeleton(case, trust_remote_code=trust_remote_code)
    config = model.config.get_text_config()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    trained = expect(model, case).trainable_parameters or 0
    weights = parameters * _WEIGHT_BITS[case.quantization] // 8
    if case.adapter is not None and (case.task == "train" or case.adapter_state == "unmerged"):
        weights += trained * _TRAINED_BYTES
    if case.task != "train":
        return Arithmetic(weights, 0, 0)
    per_trained = _TRAINED_BYTES + _OPTIMIZER_BYTES[case.optimizer]
    width, length = config.hidden_size, case.sequence_length
    per_position = 34 * width
    if case.gradient_checkpointing != "none":
        per_position = 2 * width
    elif case.attention == "eager":
        per_position += 5 * config.num_attention_heads * length
    activations = len(layers_of(model)) * case.batch_size * length * per_position
    if case.quantization == "fp32":
        activations *= 2
    return Arithmetic(weights, trained * per_trained, activations)


def memory_tracker_peak(case: Case, *, trust_remote_code: bool = False) -> int:
    """The peak that PyTorch's MemTracker sees in a steady training step of fake tensors.

    They lie on the CPU, as a CPU build has it, and take the CPU's way: other attention kernels, no workspaces, no
    rounding to blocks. Only the step runs as users would run it; the model is built as the prediction builds it. As it
    is, MemTracker refuses every model with frozen parameters, and so all of LoRA: it hooks each parameter's gradient
    (``_track_module_params_and_buffers``). It is told here that those of frozen ones are hooked already.

    Raises:
        DeviceError: the model cannot be built of fake tensors.
        ValueError: the case is no training.
    """
    if case.task != "train":
        raise ValueError("MemTracker is asked for a training step")
    workload = Training(case, FakeDevice(), trust_remote_code)
    silent = UnobservedPhases(lambda phase: None)
    with FakeTensorMode(allow_non_fake_inputs=True):
        with as_on_cuda():
            workload.build(silent)
        tracker = MemTracker()
        tracker.track_external(workload.model)
        for parameter in workload.model.parameters():
            if not parameter.requires_grad:
                tracker._param_to_grad_hook_handles[parameter] = (_NO_HOOK, _NO_HOOK)
        with tracker:
            workload.start()
            for _ in range(_STEPS):
                # It refuses a second step without it.
                tracker.reset_mod_stats()
                workload.step(silent)
    snapshot = tracker.get_tracker_snapshot("peak")
    return max(counts["Total"] for counts in snapshot.values())
