"""All that the page and its Markdown twin show, before it becomes either."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lorabench.analysis.claims.claim import Judgement
from lorabench.analysis.timed_share import timed_share
from lorabench.report.page.agreeing import agreement_table
from lorabench.report.page.beside import Beside, beside
from lorabench.report.page.cards import Card, Chapter, cards, chapters, counts
from lorabench.report.page.caveats import Caveats, Machine, caveats, machines
from lorabench.report.page.estimated import Estimated, estimated
from lorabench.report.page.material import Material, devices
from lorabench.report.page.quantities import Table
from lorabench.report.page.roofs import Roofs, roofs
from lorabench.report.page.scenarios import Panel, left_out, panels


@dataclass(frozen=True)
class View:
    """``when`` is the time of the newest record that was made here, or of the newest at all.

    ``timed_percent`` is the share of wall time that went into timed and warm-up steps, None where nothing was timed.
    """

    material: Material
    cards: tuple[Card, ...]
    chapters: tuple[Chapter, ...]
    counts: Mapping[Judgement, int]
    panels: tuple[Panel, ...]
    panels_left_out: int
    beside: Beside | None
    agreement: Table | None
    estimated: Estimated | None
    roofs: Roofs | None
    caveats: Caveats
    machines: tuple[Machine, ...]
    devices: tuple[str, ...]
    cases: int
    committed: int
    timed_percent: int | None
    when: str | None


def view(material: Material) -> View:
    made = cards(material.verdicts, material.agreements)
    share = timed_share(entry.record for entry in material.entries)
    return View(
        material=material,
        cards=made,
        chapters=chapters(made),
        counts=counts(made),
        panels=panels(material),
        panels_left_out=left_out(material),
        beside=beside(material),
        agreement=agreement_table(material.agreements),
        estimated=estimated(material),
        roofs=roofs(material),
        caveats=caveats(material),
        machines=machines(material),
        devices=devices(material.entries),
        cases=len({entry.record.key for entry in material.entries}),
        committed=sum(entry.committed for entry in material.entries),
        timed_percent=None if share is None else round(100 * share),
        when=_newest(material),
    )


def _newest(material: Material) -> str | None:
    """The day, which needs no time zone to be read."""
    fresh = [entry.record.started_at for entry in material.entries if not entry.committed]
    times = fresh or [entry.record.started_at for entry in material.entries]
    return max(times)[:10] if times else None
