"""What is done to a model: training steps, inference, and the life of adapters."""

from __future__ import annotations

from lorabench.case import Case
from lorabench.device.protocol import Device
from lorabench.errors import InputError
from lorabench.workload.inference import Inference
from lorabench.workload.lifecycle import Lifecycle
from lorabench.workload.protocol import Workload
from lorabench.workload.training import Training


def make_workload(case: Case, device: Device, trust_remote_code: bool = False) -> Workload:
    """The workload of the case's task, nothing built yet: training or inference, which are made of steps."""
    if case.task == "train":
        return Training(case, device, trust_remote_code)
    if case.task == "infer":
        return Inference(case, device, trust_remote_code)
    raise InputError("task: a lifecycle has no steps to time in turn with others; leave it out of groups")


def make_life(case: Case, device: Device, trust_remote_code: bool = False) -> Lifecycle:
    """The life of a lifecycle case's adapters; close it in the end."""
    return Lifecycle(case, device, trust_remote_code)
