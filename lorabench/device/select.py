"""From a device's spec to the device, on the worker's side. The parent finds out what there is without torch
(:func:`lorabench.environment.resolve_device`)."""

from __future__ import annotations

from lorabench.catalog import find_card
from lorabench.device.protocol import Device
from lorabench.errors import DeviceError


def open_device(spec: str) -> Device:
    """The device that ``spec`` names: ``cpu``, ``cuda``, ``cuda:N``, ``fake``, ``fake:CARD`` or ``fake:CARD:BYTES``.

    ``BYTES`` are the fake card's capacity. Without them it has none here: what a card leaves depends on the case
    (:mod:`lorabench.runner.on_card`).

    Raises:
        DeviceError: no device has that name, or it is not there.
    """
    kind, _, number = spec.partition(":")
    if spec == "cpu":
        from lorabench.device.cpu import CpuDevice

        return CpuDevice()
    if spec == "fake":
        from lorabench.device.fake import FakeDevice

        return FakeDevice()
    if kind == "fake" and number:
        from lorabench.device.fake import FakeDevice

        name, _, capacity = number.partition(":")
        return FakeDevice(find_card(name), int(capacity) if capacity else None)
    if kind == "cuda" and (number.isdecimal() or spec == "cuda"):
        from lorabench.device.cuda import CudaDevice

        return CudaDevice(int(number or 0))
    raise DeviceError(f"{spec}: no such device: cpu, cuda, cuda:N or fake would be right")
