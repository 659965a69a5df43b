"""The book of a step: each storage's life, and what was allocated after each operator."""

from __future__ import annotations

from dataclasses import dataclass

from lorabench.measure.attribution.categories import ACTIVATIONS, LOGITS_AND_LOSS, TEMPORARIES


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose forward pass made something, or whose nodes the backward pass runs.

    ``is_tail`` marks what comes after the model's body: the output head and the loss.
    """

    module: str
    is_tail: bool = False


@dataclass(slots=True, eq=False)
class Life:
    """One storage from birth to death, in ticks of :class:`Ledger`.

    ``held_bytes`` is what its block holds of the device's memory; ``address`` is 0 where blocks have none that can be
    read. ``category`` is what a walk over model, optimizer or outputs found it to be, or None.
    """

    nbytes: int
    held_bytes: int
    address: int
    born: int
    phase: str
    owner: Owner
    operator: str
    shape: tuple[int, ...]
    dtype: str
    died: int | None = None
    category: str | None = None
    is_saved: bool = False
    outlives_forward: bool = False

    @property
    def final_category(self) -> str:
        """Of ``categories``, once the step is over."""
        if self.category is not None:
            return self.category
        if self.owner.is_tail:
            return LOGITS_AND_LOSS
        return ACTIVATIONS if self.is_saved or self.outlives_forward else TEMPORARIES

    def is_live_at(self, tick: int) -> bool:
        return self.born <= tick and (self.died is None or self.died > tick)


@dataclass(frozen=True, slots=True)
class Moment:
    """Right after an operator: ``allocated_bytes`` then, and on top what it took and gave back meanwhile."""

    tick: int
    number: int
    operator: str
    phase: str
    allocated_bytes: int
    temporary_bytes: int

    @property
    def peak_bytes(self) -> int:
        return self.allocated_bytes + self.temporary_bytes


class Ledger:
    """Everything that happened in one step.

    The tick rises before and after each operator, so that what died because of an operator's end is told from what
    died within it. Operators are numbered from 1; moment 0 is the step's start.
    """

    def __init__(self) -> None:
        self.tick = 0
        self.number = 0
        self.phase = ""
        self.lives: list[Life] = []
        self.moments: list[Moment] = []
        self.phases: list[tuple[str, int]] = []
        """Each phase entered, and the number of its first operator."""
        self.live_bytes = 0
        self._by_id: dict[int, Life] = {}

    def add(self, storage_id: int, life: Life) -> None:
        self.lives.append(life)
        self._by_id[storage_id] = life
        self.live_bytes += life.held_bytes

    def end(self, storage_id: int) -> None:
        """The storage died; nothing for one that was never added."""
        life = self._by_id.pop(storage_id, None)
        if life is not None:
            life.died = self.tick
            self.live_bytes -= life.held_bytes

    def find(self, storage_id: int | None) -> Life | None:
        return None if storage_id is None else self._by_id.get(storage_id)

    def enter(self, phase: str) -> None:
        self.phase = phase
        self.phases.append((phase, self.number + 1))

    def keep_since(self, first: int) -> None:
        """What was born from ``lives[first]`` on and still lives outlived the forward pass that made it."""
        for life in self.lives[first:]:
            if life.died is None:
                life.outlives_forward = True

    def peak(self) -> Moment:
        """The moment with the most bytes; the first of several."""
        return max(self.moments, key=lambda moment: moment.peak_bytes)
