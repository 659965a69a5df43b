"""The cases of one scenario on one device, as a figure shows them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lorabench.record import Memory, Timing
from lorabench.report.page.material import Entry, Material, in_each_scenario

Title = tuple[str, str]
"""A scenario, and the device with what else tells a figure's cases from others."""
MOST_CASES = 24
MOST_FIGURES = 40
"""Scenarios that get a figure; the charts of the page reach all."""
_MOST_PHASES = 2
# What a reader asks of a task first.
_PHASES = ("prefill", "decode", "merge", "forward", "attach", "switch", "load_adapter")


@dataclass(frozen=True)
class Row:
    """One case of a scenario: its memory, and the times of the phases that are drawn."""

    label: str
    memory: Memory
    timed: tuple[Timing | None, ...]


@dataclass(frozen=True)
class Panel:
    """``rows`` of the first :data:`MOST_CASES` cases; ``left_out`` counts the others."""

    figure: str
    scenario: str
    device: str
    phases: tuple[str, ...]
    rows: tuple[Row, ...]
    left_out: int

    @property
    def title(self) -> str:
        return f"{self.scenario} on {self.device}"


def panels(material: Material) -> tuple[Panel, ...]:
    """Scenarios with anything to draw, in order: each as measured, then as predicted; at most :data:`MOST_FIGURES`."""
    groups = _drawable(material)
    place = {scenario: number for number, scenario in enumerate(dict.fromkeys(scenario for scenario, _ in groups))}
    titles = sorted(
        _first_to_last(groups)[:MOST_FIGURES], key=lambda title: (place[title[0]], _is_predicted(groups[title]))
    )
    return tuple(_panel(number, *title, groups[title]) for number, title in enumerate(titles, 1))


def left_out(material: Material) -> tuple[str, ...]:
    """The devices of the scenarios that have no figure because there are too many, once for each scenario."""
    groups = _drawable(material)
    return tuple(groups[title][0].device for title in _first_to_last(groups)[MOST_FIGURES:])


def _first_to_last(groups: Mapping[Title, Sequence[Entry]]) -> list[Title]:
    """What a reader would miss most comes first: a prediction is nearly what was measured, if anything was."""
    measured = {title[0] for title, members in groups.items() if not _is_predicted(members)}
    return sorted(groups, key=lambda title: (_is_predicted(groups[title]), title[0] in measured))


def _is_predicted(members: Sequence[Entry]) -> bool:
    return members[0].record.source == "predicted"


def _drawable(material: Material) -> dict[Title, list[Entry]]:
    """By scenario and by device, as a title names it: what has anything to draw.

    The numbers of an invalid case are of something else than its name says, and would be compared with others'.
    """
    groups: dict[Title, list[Entry]] = {}
    for entry in in_each_scenario(material.entries):
        if entry.record.status != "invalid" and (entry.record.memory is not None or entry.record.latency):
            groups.setdefault((entry.record.scenario, entry.where), []).append(entry)
    return groups


def _panel(number: int, scenario: str, device: str, members: Sequence[Entry]) -> Panel:
    timed = {phase for entry in members for phase in entry.record.latency}
    # A step is the sum of its phases.
    phases = ("step",) if "step" in timed else tuple(phase for phase in _PHASES if phase in timed)[:_MOST_PHASES]
    rows = tuple(_row(entry, phases) for entry in members[:MOST_CASES])
    return Panel(_file_name(number, scenario), scenario, device, phases, rows, max(0, len(members) - MOST_CASES))


def _file_name(number: int, scenario: str) -> str:
    """A results file may name a scenario anything; a file's name keeps what is harmless of it."""
    kept = re.sub(r"[^a-z0-9]+", "-", scenario.lower())[:40].strip("-")
    return f"cases-{number:02}-{kept}" if kept else f"cases-{number:02}"


def _row(entry: Entry, phases: Sequence[str]) -> Row:
    latency = entry.record.latency
    return Row(entry.label, entry.record.memory or Memory(), tuple(latency.get(phase) for phase in phases))
