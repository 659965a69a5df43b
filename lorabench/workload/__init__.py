"""What is done to a model: training steps, inference, and the life of adapters."""

from __future__ import annotations

from lorabench.case import Case
from lorabench.device.protocol import Device
from lorabench.errors import InputError
from lorabench.workload.inference import Inference
from lorabench.workload.protocol import Workload
from lorabench.workload.training import Training


def make_workload(case: Case, device: Device, trust_remote_code: bool = False) -> Workload:
    """The workload of the case's task, nothing built yet."""
    if case.task == "train":
        return Training(case, device, trust_remote_code)
    if case.task == "infer":
        return Inference(case, device, trust_remote_code)
    raise InputError(f"task: {case.task} cannot be run by this version; train and infer can")
