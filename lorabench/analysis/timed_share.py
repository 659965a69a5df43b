"""How much of a run's wall time went into the steps that are measured, and not into building and starting."""

from __future__ import annotations

from collections.abc import Iterable

from lorabench.record import Record


def timed_share(records: Iterable[Record]) -> float | None:
    """Seconds in timed and untimed (warm-up) steps by the wall time of the cases timed; None where none was.

    ``records`` are of one device.

    The seconds are the stage ``timing`` of ``observations.stages_s`` and, of arms that took turns in one process, of
    ``timing_stages_s``, which each arm's record has whole: it counts once. Wall time is from the start of a case's
    processes to their end; what a run does before its first case is not in it.
    """
    timed = [
        record
        for record in records
        if record.source == "measured" and (_seconds(record, "stages_s") or _seconds(record, "timing_stages_s"))
    ]
    if not timed:
        return None
    alone_s = sum(_seconds(record, "stages_s") for record in timed)
    # Arms of one process have its seconds to the last digit.
    together_s = {(record.environment, record.group, _seconds(record, "timing_stages_s")) for record in timed}
    return (alone_s + sum(seconds for _, _, seconds in together_s)) / sum(record.wall_s for record in timed)


def _seconds(record: Record, stages: str) -> float:
    found = record.observations.get(stages)
    seconds = found.get("timing") if isinstance(found, dict) else None
    return float(seconds) if isinstance(seconds, int | float) else 0.0
