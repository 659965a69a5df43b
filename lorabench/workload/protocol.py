"""What the measuring passes ask of a workload, whatever it does."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch

from lorabench.case import Case
from lorabench.measure.phases import Phases
from lorabench.model.proof import Expected


class Buildable(Protocol):
    """What can be built on a device, so that its static memory can be read."""

    def build(self, phases: Phases) -> None:
        """Load, prepare and attach, each a phase. What is allocated afterwards is the static memory."""

    def start(self) -> None:
        """What comes after static memory has been read: inputs on the device, and the optimizer."""


class Workload(Buildable, Protocol):
    """One case, built and run step by step on a device."""

    case: Case

    @property
    def model(self) -> Any:
        """The model as the step runs it; a PeftModel where the case has an adapter."""

    @property
    def expected(self) -> Expected | None:
        """What the bare model's shapes say that the case must yield; known once built."""

    @property
    def optimizer(self) -> torch.optim.Optimizer | None: ...

    @property
    def unsteady_steps(self) -> int:
        """Steps from the start whose memory is not yet the steady state's."""

    def step(self, phases: Phases) -> None:
        """One reference step, as DESIGN and the documentation define it."""

    def begin_timing(self) -> None:
        """From here on, keep what steps yield beyond bytes and seconds, for :meth:`observations`."""

    def observations(self) -> dict[str, Any]:
        """What the steps since :meth:`begin_timing` yielded, as plain data without NaN; waits for the device."""

    def latency(self, samples_s: Mapping[str, list[float]]) -> dict[str, list[float]]:
        """What the timed samples of a step's phases say, under the names that a record gives them."""

    def shortened(self) -> AbstractContextManager[None]:
        """Within it, a step repeats less often what it repeats, and :meth:`latency` reckons with that."""

    def tokens_per_s(self, latency: Mapping[str, list[float]]) -> float | None:
        """Tokens a second at the median; None where nothing was timed."""
