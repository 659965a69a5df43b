"""The workload of a lifecycle case: three walks through one life, in the order in which a worker asks for them."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from lorabench.case import Case
from lorabench.device.protocol import Device
from lorabench.measure.phases import OnPhase, Phases
from lorabench.model.proof import Expected
from lorabench.record import Proof
from lorabench.workload.lifecycle.findings import Findings, proof_of
from lorabench.workload.lifecycle.memory import MemoryWalk
from lorabench.workload.lifecycle.models import Models
from lorabench.workload.lifecycle.neighbours import Neighbours
from lorabench.workload.lifecycle.timing import TimedWalk


class Lifecycle:
    """One case's life. Its files lie in a temporary folder, which :meth:`close` removes.

    The server gives each job a temporary folder of its own and removes that one when the job's process has ended,
    however it did.
    """

    def __init__(self, case: Case, device: Device, trust_remote_code: bool = False) -> None:
        self.case = case
        self.model: Any = None
        self.expected: Expected | None = None
        self._folder = Path(tempfile.mkdtemp(prefix="lifecycle-"))
        self._models = Models(case, device, self._folder, trust_remote_code)
        self._memory = MemoryWalk(self._models)
        self._findings: Findings | None = None
        self._load_s: list[float] = []

    def build(self, phases: Phases) -> None:
        """Load, prepare and attach, each a phase."""
        self.model = self._memory.build(phases)

    def start(self) -> None:
        """Inputs on the device."""
        self._memory.make_inputs(self.model)

    def live(self, phases: Phases) -> None:
        """All of the life after attaching, each thing once; the adapters' files are there afterwards."""
        model, self.model = self.model, None
        self._memory.live(model, phases)

    def count(self) -> Proof:
        """What was built, before it is lived: all that can be proved without values. :attr:`expected` is known then."""
        self.expected = self._memory.expected
        return proof_of(self.model, self.case, self._models.device.torch_device)

    def prove(self, on_phase: OnPhase) -> Proof:
        """What was built and trained; :attr:`expected` is known afterwards."""
        self._findings = Findings(self._models, on_phase)
        proof, self.expected = self._findings.prove()
        return proof

    def bytes_told(self) -> dict[str, Any]:
        """Of ``observations.lifecycle`` what :meth:`live` tells: all that a device knows that computes nothing."""
        memory = self._memory
        return {"unload": memory.unloaded, "adapters": memory.adapters(), "delete": memory.deleted or memory.adapters()}

    def observe(self) -> dict[str, Any]:
        """``observations.lifecycle``, but for what :meth:`neighbours` adds."""
        assert self._findings is not None, "prove() comes first"
        found = self._findings.observe()
        self._findings = None
        found["unload"] |= self._memory.unloaded
        return found

    def time(self, on_phase: OnPhase) -> dict[str, list[float]]:
        """Seconds of each phase; what is not repeated has fewer samples than the rest."""
        samples_s = TimedWalk(self._models, on_phase).run()
        if self._memory.refused is None:
            self._neighbours = Neighbours(self._models, on_phase)
            self._load_s = (times_s := self._neighbours.time())["load_adapter"]
            samples_s |= times_s
        return samples_s

    def neighbours(self) -> dict[str, Any]:
        """``adapters``, ``switch`` and ``delete``, after :meth:`time`; why not, where PEFT takes no further adapter."""
        memory = self._memory
        told = memory.adapters()
        if memory.refused is not None:
            return {"adapters": told, "switch": told, "delete": told}
        adapters, switch = self._neighbours.compare()
        return {"adapters": {**told, "load_s": self._load_s, **adapters}, "switch": switch, "delete": memory.deleted}

    @property
    def warnings(self) -> list[str]:
        """What a reader must know beside the numbers."""
        return self._models.warnings

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
