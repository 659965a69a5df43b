"""All that the page and its Markdown twin show, before it becomes either."""

from __future__ import annotations

from dataclasses import dataclass

from lorabench.analysis.predicted import identity, pairs
from lorabench.analysis.timed_share import timed_share
from lorabench.report.page.agreeing import Agreed, agreed
from lorabench.report.page.beside import Beside, beside
from lorabench.report.page.cards import Card, Glance, cards, glances
from lorabench.report.page.caveats import Caveats, Machine, caveats, machines
from lorabench.report.page.estimated import Estimated, Told, estimated, told
from lorabench.report.page.material import Material, by_device, devices, on_each
from lorabench.report.page.rerun import opening
from lorabench.report.page.roofs import Roofs, roofs
from lorabench.report.page.scenarios import Panel, left_out, panels
from lorabench.wording import days


@dataclass(frozen=True)
class Timed:
    """``percent`` of the wall time on ``device`` went into timed and warm-up steps.

    ``device`` is None where the report has no other.
    """

    device: str | None
    percent: int


@dataclass(frozen=True)
class View:
    """``when`` has the days of the records that were made here, or of all. ``predicted`` and ``with_times`` are counts,
    and ``met`` counts the predictions whose case was measured, too.

    ``opening`` is the command that shows one of the records behind the verdicts whole, None where no file has any.

    ``panels_left_out`` scenarios have no figure, and ``panels_left_out_on`` says how many on which device. Where
    records are of ``several`` devices, what sums up their numbers has a part for each.
    """

    material: Material
    cards: tuple[Card, ...]
    glances: tuple[Glance, ...]
    opening: str | None
    panels: tuple[Panel, ...]
    panels_left_out: int
    panels_left_out_on: str
    beside: tuple[Beside, ...]
    agreed: tuple[Agreed, ...]
    estimated: tuple[Estimated, ...]
    methods: tuple[Told, ...]
    roofs: tuple[Roofs, ...]
    caveats: Caveats
    machines: tuple[Machine, ...]
    devices: tuple[str, ...]
    several: bool
    cases: int
    committed: int
    predicted: int
    met: int
    with_times: int
    timed: tuple[Timed, ...]
    when: str | None


def view(material: Material) -> View:
    made = cards(material.verdicts, material.agreements, material.entries)
    estimates, not_drawn = estimated(material), left_out(material)
    several = len(by_device(material)) > 1
    predictions = [entry.record for entry in material.entries if entry.record.source == "predicted"]
    met = {identity(predicted) for predicted, _ in pairs(entry.record for entry in material.entries)}
    return View(
        material=material,
        cards=made,
        glances=glances(material, made),
        opening=opening(material.verdicts, material.entries),
        panels=panels(material),
        panels_left_out=len(not_drawn),
        panels_left_out_on=on_each(not_drawn),
        beside=beside(material),
        agreed=agreed(material),
        estimated=estimates,
        methods=told(estimates),
        roofs=roofs(material),
        caveats=caveats(material),
        machines=machines(material),
        devices=devices(material.entries),
        several=several,
        cases=len({entry.record.key for entry in material.entries}),
        committed=sum(entry.committed for entry in material.entries),
        predicted=len(predictions),
        met=sum(identity(record) in met for record in predictions),
        with_times=sum(bool(entry.record.latency) for entry in material.entries),
        timed=_timed(material),
        when=_when(material),
    )


def _timed(material: Material) -> tuple[Timed, ...]:
    shares = ((device, timed_share(entry.record for entry in part.entries)) for device, part in by_device(material))
    return tuple(Timed(device, round(100 * share)) for device, share in shares if share is not None)


def _when(material: Material) -> str | None:
    """Of what was made here, if anything was: evidence that is committed may be old."""
    fresh = [entry.record.started_at for entry in material.entries if not entry.committed]
    return days(fresh or [entry.record.started_at for entry in material.entries])
