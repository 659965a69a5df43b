"""What is run, and in which order."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence

from lorabench.case import Case
from lorabench.results import Identity
from lorabench.runner.launcher import Work


def plan(
    cases: Iterable[Case],
    *,
    device_name: str,
    repeated: bool = True,
    finished: Collection[Identity] = (),
    seed: int = 0,
) -> list[Work]:
    """Rounds: every work that has a repeat left runs once in each, in an order drawn anew from ``seed``.

    A slow drift of the machine then hits all cases alike. A case that two scenarios share is planned once.
    ``finished`` identities are left out; a group is, if all of it is. Without ``repeated`` there is one round.
    """
    bundles = _bundle(cases)
    rounds = max((case.measure.repeats for bundle in bundles for case in bundle), default=0) if repeated else 1
    works: list[Work] = []
    for repeat in range(rounds):
        seen: set[Identity] = set()
        in_round: list[Work] = []
        for bundle in bundles:
            if repeated and bundle[0].measure.repeats <= repeat:
                continue
            identities = {_identity(case, device_name, repeat) for case in bundle}
            if identities <= seen or all(identity in finished for identity in identities):
                continue
            seen |= identities
            in_round.append(Work(bundle, repeat))
        random.Random(f"{seed}:{repeat}").shuffle(in_round)
        works += in_round
    return works


def _bundle(cases: Iterable[Case]) -> Sequence[tuple[Case, ...]]:
    """The cases by themselves and the groups, in the order in which they first come up."""
    bundles: dict[object, list[Case]] = {}
    for position, case in enumerate(cases):
        bundles.setdefault(position if case.group is None else case.group, []).append(case)
    return [tuple(bundle) for bundle in bundles.values()]


def _identity(case: Case, device_name: str, repeat: int) -> Identity:
    return (case.key, device_name, case.seed, repeat, case.group)
