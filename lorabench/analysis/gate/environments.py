"""Whether two environments' bytes can be compared, and what else differs between them."""

from __future__ import annotations

from collections.abc import Iterator

from lorabench.environment import Environment

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")
"""Those whose version decides what is allocated."""


def decisive_versions(environment: Environment) -> dict[str, str | None]:
    """Those of :data:`LIBRARIES`; None where one is not installed.

    Of predictions torch's build is left out (``+cpu``, ``+cu130``; PEP 440's local version): none of its kernels runs.
    """
    versions = {name: environment.versions.get(name) for name in LIBRARIES}
    if environment.device.type != "fake":
        return versions
    return {name: version and version.partition("+")[0] for name, version in versions.items()}


def differences(base: Environment, head: Environment) -> Iterator[str]:
    """What makes the bytes of two environments' records no evidence of a change to the code: one line each."""
    if (base.device.type, base.device.name) != (head.device.type, head.device.name):
        yield f"device: {_device(base)} in the baseline, {_device(head)} here"
    before, after = decisive_versions(base), decisive_versions(head)
    for name in LIBRARIES:
        if before[name] != after[name]:
            yield _differs(name, before[name], after[name])


def remarks(base: Environment, head: Environment) -> Iterator[str]:
    """What differs besides, and is not known to change bytes: whoever looks for the cause of a change should know."""
    for name in sorted({*base.versions, *head.versions} - {*LIBRARIES}):
        before, after = base.versions.get(name), head.versions.get(name)
        # A baseline written by hand, or by an older version, may say less.
        if before is not None and before != after:
            yield _differs(name, before, after)
    if base.driver != head.driver:
        yield _differs("driver", base.driver, head.driver)
    if base.lorabench != head.lorabench:
        yield _differs("lorabench", base.lorabench, head.lorabench)
    same_device = (base.device.type, base.device.name) == (head.device.type, head.device.name)
    if same_device and base.device.total_bytes != head.device.total_bytes:
        yield _differs("memory of the device", f"{base.device.total_bytes:,} bytes", f"{head.device.total_bytes:,}")


def _device(environment: Environment) -> str:
    return f"{environment.device.type} ({environment.device.name})"


def _differs(name: str, before: str | None, after: str | None) -> str:
    return f"{name}: {before or 'none'} in the baseline, {after or 'none'} here"
