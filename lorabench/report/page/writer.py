"""Writes a report: ``index.html``, ``report.md``, ``claims.csv``, ``records.csv`` and ``figures/``; and
``predictions.csv`` where cases were both predicted and measured, ``estimates.csv`` where they were estimated by other
methods too, ``roofline.csv`` where work was counted."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeVar

from lorabench.analysis.agreement import Agreement, agreements
from lorabench.analysis.claims.claim import Verdict
from lorabench.analysis.frame import frame
from lorabench.errors import InputError
from lorabench.report.page.beside import predictions_csv
from lorabench.report.page.drawing import Drawing
from lorabench.report.page.estimated import estimates_csv
from lorabench.report.page.html import html
from lorabench.report.page.markdown import markdown
from lorabench.report.page.material import gather
from lorabench.report.page.roofs import roofline_csv
from lorabench.report.page.scenarios import panels
from lorabench.report.page.tables import claims_csv
from lorabench.report.page.view import View, view
from lorabench.results import Results

FIGURES = "figures"
PREDICTIONS = "predictions.csv"
ESTIMATES = "estimates.csv"
ROOFLINE = "roofline.csv"
# What this and earlier versions call the figures of claims, of scenarios and of other methods.
_FIGURE = re.compile(r"(claim-[a-z0-9-]+|cases-\d+(-[a-z0-9-]+)?|estimates(-\d+)?)\.(svg|png)")
# Names from a file may hold a lone surrogate, which no encoding can write.
_UNWRITABLE: Literal["backslashreplace"] = "backslashreplace"

Line = TypeVar("Line")
Judge = Callable[[Sequence[Results]], Sequence[Verdict]]


def write_report(results: Sequence[Results], judge: Judge, out: Path, drawing: Drawing) -> View:
    """Writes the report of ``results``, a file each, into the folder ``out``.

    ``judge`` gives the verdicts on them; what does not need verdicts is drawn while it thinks. Files of an earlier
    report are replaced. Returns what the page shows.

    Raises:
        InputError: ``out`` cannot be written.
    """
    material = gather(results, ())
    for panel in panels(material):
        drawing.scenario(panel.figure, panel.phases, panel.rows)
    verdicts = tuple(judge(results))
    material = replace(material, verdicts=verdicts, agreements=tuple(_agreements(results, verdicts)))
    shown = view(material)
    _draw(shown, drawing)
    table = frame([entry.record for entry in material.entries], material.environments)
    # After all others: who reads by position finds them where they were.
    table["file"] = [entry.file for entry in material.entries]
    try:
        (out / FIGURES).mkdir(parents=True, exist_ok=True)
        table.to_csv(out / "records.csv", index=False, encoding="utf-8", errors=_UNWRITABLE)
        _write(out / "claims.csv", claims_csv(material.verdicts, material.agreements))
        _write_or_remove(out / PREDICTIONS, _csv(predictions_csv, (one.comparisons for one in shown.beside)))
        _write_or_remove(out / ESTIMATES, _csv(estimates_csv, (one.estimates for one in shown.estimated)))
        _write_or_remove(out / ROOFLINE, _csv(roofline_csv, (one.roofs for one in shown.roofs)))
        drawn = drawing.drawn()
        for name, figure in drawn.items():
            _write(out / FIGURES / f"{name}.svg", figure.svg)
            (out / FIGURES / f"{name}.png").write_bytes(figure.png)
        _remove_others(out / FIGURES, drawn)
        _write(out / "report.md", markdown(shown))
        _write(out / "index.html", html(shown, table, drawn))
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written: {error.strerror}") from None
    return shown


def _agreements(results: Sequence[Results], verdicts: Sequence[Verdict]) -> list[Agreement]:
    if not any(record.source == "predicted" for file in results for record in file.records):
        return []
    # Here, for it needs scipy, which whoever judges has imported already.
    from lorabench.analysis.claims.judging import gather as gather_evidence

    return agreements(gather_evidence(results), {one.claim.id: one.claim for one in verdicts}.values())


def _draw(shown: View, drawing: Drawing) -> None:
    for one in shown.estimated:
        drawing.estimates(one.figure, one.strips)
    for card in shown.cards:
        for scoped in (card.primary, *card.others):
            if scoped.figure is not None and card.claim.figure is not None:
                finding = scoped.verdict.finding
                drawing.claim(scoped.figure, card.claim.figure, finding.rows, finding.drawn)


def _csv(write: Callable[[Sequence[Line]], str], devices: Iterable[Sequence[Line]]) -> str | None:
    """One file of the lines of all devices, each of which names its own; None where there are none."""
    lines = [line for of_device in devices for line in of_device]
    return write(lines) if lines else None


def _write_or_remove(path: Path, text: str | None) -> None:
    """A file of an earlier report does not stay where this one has nothing to put there."""
    if text is None:
        path.unlink(missing_ok=True)
    else:
        _write(path, text)


def _remove_others(folder: Path, drawn: Collection[str]) -> None:
    """Figures of an earlier report do not stay; what else lies there is not the report's."""
    for path in folder.iterdir():
        if _FIGURE.fullmatch(path.name) and path.stem not in drawn and not path.is_dir():
            path.unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors=_UNWRITABLE, newline="")
