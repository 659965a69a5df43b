"""GPU cards as plain data: what ``--gpu`` and ``lorabench fit`` know of hardware that is not there.

``total_bytes`` is the memory that NVML and nvidia-smi report (drivers from 525 on, which count the driver's own share
into it). ``cuda_bytes`` is what ``cudaMemGetInfo`` calls the total: the driver and ECC have taken theirs. It is read
from PyTorch's own out-of-memory messages ("GPU 0 has a total capacity of 79.11 GiB"), the lowest that was found for
the card, and counted half a unit of the last digit lower; the comment beside each card says where. Drivers differ by
up to 200 MiB. Compute capabilities are those of https://developer.nvidia.com/cuda-gpus. Multiprocessors follow from the
CUDA cores of NVIDIA's data sheets: 64 a multiprocessor on V100, T4 and A100, 128 on all others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lorabench.errors import DeviceError
from lorabench.wording import did_you_mean, one_line

_MIB = 1 << 20
_GIB = 1 << 30

CONTEXT_BYTES: Mapping[str, int] = {"int8": 824 * _MIB}
"""What a process with a CUDA context holds beyond the allocator's segments, by quantization.

Measured on an H100 (driver 580.159, CUDA 13.0, torch 2.11, bitsandbytes 0.50.2): ``device_used_bytes`` less
``peak_reserved_bytes`` of 46 cases, the highest of each kind. It is the context, and the kernels that were loaded: 758
MiB in training and 688 to 758 in inference, bitsandbytes' int8 kernels 64 to 66 more. An H200 with the same versions
holds as much, to 2 MiB (60 cases). For other cards no such measurement was found, and the H100's is taken.
"""
DENSE_CONTEXT_BYTES = 758 * _MIB
"""The same where it is not int8."""


@dataclass(frozen=True)
class Card:
    """One GPU product; ``name`` is what ``--gpu`` takes, ``product`` what NVML calls it."""

    name: str
    product: str
    total_bytes: int
    cuda_bytes: int
    compute_capability: tuple[int, int]
    multiprocessors: int

    def usable_bytes(self, quantization: str) -> int:
        """What is left for the allocator's segments on a card that nobody else uses, in a case of ``quantization``."""
        return self.cuda_bytes - CONTEXT_BYTES.get(quantization, DENSE_CONTEXT_BYTES)

    @property
    def has_bf16(self) -> bool:
        """Whether its tensor cores multiply bf16: from Ampere on."""
        return self.compute_capability >= (8, 0)

    @property
    def has_flash_attention(self) -> bool:
        """``check_sm_version`` of aten/src/ATen/native/transformers/cuda/sdp_utils.cpp: from sm80 on."""
        return self.compute_capability >= (8, 0)


def _card(
    name: str, product: str, total_mib: int, cuda_gib: float, capability: tuple[int, int], multiprocessors: int
) -> Card:
    cuda_mib = int((cuda_gib - 0.005) * _GIB) // _MIB
    return Card(name, product, total_mib * _MIB, cuda_mib * _MIB, capability, multiprocessors)


CARDS: Mapping[str, Card] = {
    card.name: card
    for card in (
        # github.com/Zheng-Chong/CatVTON/issues/133
        _card("T4", "Tesla T4", 15360, 14.56, (7, 5), 40),
        # github.com/kchengiva/Shift-GCN/issues/34
        _card("V100-16", "Tesla V100-SXM2-16GB", 16384, 15.78, (7, 0), 80),
        # github.com/liucongg/ChatGLM-Finetuning/issues/73
        _card("V100-32", "Tesla V100-SXM2-32GB", 32768, 31.74, (7, 0), 80),
        # github.com/3DTopia/OpenLRM/issues/42
        _card("RTX3090", "NVIDIA GeForce RTX 3090", 24576, 23.68, (8, 6), 82),
        # github.com/Soul-AILab/SoulX-FlashTalk/issues/5
        _card("RTX4090", "NVIDIA GeForce RTX 4090", 24564, 23.52, (8, 9), 128),
        # github.com/TrajectoryCrafter/TrajectoryCrafter/issues/20
        _card("RTX5090", "NVIDIA GeForce RTX 5090", 32607, 31.36, (12, 0), 170),
        # github.com/ArcInstitute/evo2/issues/190
        _card("L4", "NVIDIA L4", 23034, 22.03, (8, 9), 58),
        # github.com/zai-org/CogVLM/issues/236
        _card("A10", "NVIDIA A10", 23028, 21.99, (8, 6), 72),
        # github.com/TianheWu/CoSeR/issues/10
        _card("A100-40", "NVIDIA A100-SXM4-40GB", 40960, 39.50, (8, 0), 108),
        # github.com/lianqi1008/Control-GIC/issues/6
        _card("A100-80", "NVIDIA A100-SXM4-80GB", 81920, 79.14, (8, 0), 108),
        # github.com/stepfun-ai/Step-Video-T2V/issues/8
        _card("L40S", "NVIDIA L40S", 46068, 44.42, (8, 9), 142),
        # github.com/vllm-project/vllm/issues/27508
        _card("H100", "NVIDIA H100 80GB HBM3", 81559, 79.11, (9, 0), 132),
        # Logs in public repositories: 139.72 to 139.81 GiB.
        _card("H200", "NVIDIA H200", 143771, 139.72, (9, 0), 132),
        # Logs in public repositories: 178.35 and 178.36 GiB.
        _card("B200", "NVIDIA B200", 183359, 178.35, (10, 0), 148),
    )
}
"""The cards by name."""

COMPARED = frozenset({"H100", "H200"})
"""Cards that took what was predicted for them: results/h100 and results/h200 have the measurements."""

DEFAULT_CARD = CARDS["H100"]
"""What a prediction stands for unless another is named; the allow-list of kernels was audited for it."""


def find_card(name: str) -> Card:
    """The card that a user names: by its name or NVML's, in any case, with or without spaces and hyphens.

    Raises:
        DeviceError: there is no such card in the table; the text lists what there is.
    """
    wanted = _plain(name)
    for card in CARDS.values():
        if wanted in (_plain(card.name), _plain(card.product)):
            return card
    raise DeviceError(
        f"--gpu {one_line(name)[:80]}: no such card{did_you_mean(name, CARDS)}; there are {', '.join(CARDS)}"
    )


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())
