"""Adds up a followed step: the peak by category, by module and by tensor, and the timeline."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from lorabench.measure.attribution.categories import (
    ALLOCATOR_SLACK,
    CATEGORIES,
    LIBRARY_WORKSPACES,
    TEMPORARIES,
)
from lorabench.measure.attribution.held import HeldBlock
from lorabench.measure.attribution.lives import Ledger, Life, Moment

MOST_POINTS = 200
"""Of a timeline."""
MOST_TENSORS = 12
"""Of the list of a peak's largest tensors."""

Categories = dict[str, int]

_WRAPPERS = re.compile(r"^base_model\.model(\.|$)|\.(base_layer|original_module)(?=\.|$)")
_LAYER = re.compile(r"^(.*?\.\d+)(\.|$)")
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")


class Peak:
    """What was held at the highest moment of a step.

    Without ``captured``, from the lives themselves, whose blocks' sizes the device knew. With it, from the allocator's
    own list of blocks: a block belongs to the life that lay at its address; one of the operator's own without a
    storage is a temporary of its kernel; one where a library's workspace lay is that; any other is unattributed.
    """

    def __init__(
        self,
        ledger: Ledger,
        moment: Moment,
        workspace_bytes: int,
        captured: Sequence[HeldBlock] | None = None,
        workspaces: frozenset[int] = frozenset(),
    ) -> None:
        self.moment = moment
        self.unattributed_bytes = 0
        self._held: list[tuple[Life, int, int]] = []
        others: Counter[str] = Counter()
        lives = [life for life in ledger.lives if life.is_live_at(moment.tick)]
        if captured is None:
            self._held = [(life, life.nbytes, life.held_bytes - life.nbytes) for life in lives]
            others = Counter({TEMPORARIES: moment.temporary_bytes, LIBRARY_WORKSPACES: workspace_bytes})
        else:
            by_address = {life.address: life for life in lives if life.nbytes}
            for block in captured:
                slack_bytes = block.size_bytes - block.requested_bytes
                life = by_address.get(block.address)
                if life is not None:
                    self._held.append((life, block.requested_bytes, slack_bytes))
                elif block.is_of_operator:
                    others += Counter({TEMPORARIES: block.requested_bytes, ALLOCATOR_SLACK: slack_bytes})
                elif block.address in workspaces:
                    others += Counter({LIBRARY_WORKSPACES: block.requested_bytes, ALLOCATOR_SLACK: slack_bytes})
                else:
                    self.unattributed_bytes += block.size_bytes
        for life, nbytes, slack_bytes in self._held:
            others[life.final_category] += nbytes
            others[ALLOCATOR_SLACK] += slack_bytes
        self.categories: Categories = ordered(others)

    def modules(self) -> dict[str, Categories]:
        """Bytes of storages by layer and category, in the order in which layers were first seen.

        A layer is a module's name up to its first number, ``model.layers.3``; above the layers it is the whole name.
        What no module made or holds stands under an empty name.
        """
        found: dict[str, Counter[str]] = defaultdict(Counter)
        for life, nbytes, _ in self._held:
            found[layer_of(life.owner.module)][life.final_category] += nbytes
        return {name: ordered(amounts) for name, amounts in found.items()}

    def tensors(self) -> list[dict[str, Any]]:
        """The largest of what the step itself made, those of all layers together: most bytes first.

        ``is_saved`` tells what autograd's nodes saved from what something else kept.
        """
        groups: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0])
        for life, nbytes, _ in self._held:
            if life.phase:
                module = _NUMBER.sub("*", bare_name(life.owner.module))
                group = (life.final_category, module, life.operator, life.shape, life.dtype, life.is_saved)
                groups[group][0] += 1
                groups[group][1] += nbytes
        largest = sorted(groups.items(), key=lambda item: -item[1][1])[:MOST_TENSORS]
        names = ("category", "module", "operator", "shape", "dtype", "is_saved")
        return [
            {**dict(zip(names, group, strict=True)), "shape": list(group[3]), "count": count, "bytes": nbytes}
            for group, (count, nbytes) in largest
        ]


def timeline(ledger: Ledger, workspace_bytes: int, most_points: int = MOST_POINTS) -> dict[str, Any]:
    """Allocated bytes by category after each operator, the highest of each of ``most_points`` stretches of the step.

    ``at`` are the operators' numbers; ``phases`` name each phase and its first operator. What stays the same
    throughout is in ``constant_bytes``, the rest in ``varying_bytes``, a value a point. What a kernel took and gave
    back counts as a temporary at its operator; ``unattributed`` is what the allocator counts and no storage holds,
    its slack included where blocks' sizes are not known one by one.
    """
    chosen = _highest(ledger.moments, most_points)
    series: dict[str, list[int]] = {name: [] for name in (*CATEGORIES, "unattributed")}
    for moment, held in zip(chosen, _held_at(ledger, chosen), strict=True):
        held[TEMPORARIES] += moment.temporary_bytes
        held[LIBRARY_WORKSPACES] += workspace_bytes
        held["unattributed"] = moment.peak_bytes - held.total()
        for name, values in series.items():
            values.append(held[name])
    varying = {name: values for name, values in series.items() if len(set(values)) > 1}
    constant = {name: values[0] for name, values in series.items() if name not in varying and values[0]}
    return {
        "operators": ledger.number,
        "phases": [{"name": name, "from": number} for name, number in ledger.phases],
        "at": [moment.number for moment in chosen],
        "constant_bytes": constant,
        "varying_bytes": varying,
    }


def _highest(moments: Sequence[Moment], most: int) -> list[Moment]:
    """The first and the last moment, and of each stretch between them the first of those with the most bytes."""
    if len(moments) <= most:
        return list(moments)
    inner = moments[1:-1]
    stretches = most - 2
    bounds = [len(inner) * index // stretches for index in range(stretches + 1)]
    kept = [max(inner[start:end], key=lambda moment: moment.peak_bytes) for start, end in pairwise(bounds)]
    return [moments[0], *kept, moments[-1]]


def _held_at(ledger: Ledger, moments: Iterable[Moment]) -> Iterator[Counter[str]]:
    """What lives hold at each of ``moments``, by category; their order is that of time."""
    events: list[tuple[int, str, int, int]] = []
    for life in ledger.lives:
        name = life.final_category
        slack_bytes = life.held_bytes - life.nbytes
        events.append((life.born, name, life.nbytes, slack_bytes))
        if life.died is not None:
            events.append((life.died, name, -life.nbytes, -slack_bytes))
    events.sort(key=lambda event: event[0])
    now: Counter[str] = Counter()
    next_event = 0
    for moment in moments:
        while next_event < len(events) and events[next_event][0] <= moment.tick:
            _, name, nbytes, slack_bytes = events[next_event]
            now[name] += nbytes
            now[ALLOCATOR_SLACK] += slack_bytes
            next_event += 1
        yield Counter(now)


def ordered(amounts: Mapping[str, int]) -> Categories:
    """Those that are not 0, as charts stack them."""
    return {name: amounts[name] for name in CATEGORIES if amounts.get(name)}


def bare_name(module: str) -> str:
    """A module's name without what PEFT wraps around it."""
    return _WRAPPERS.sub("", module)


def layer_of(module: str) -> str:
    name = bare_name(module)
    found = _LAYER.match(name)
    return found.group(1) if found else name
