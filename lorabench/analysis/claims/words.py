"""Numbers and lists as findings tell them, and the verdict that rows come to together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lorabench.analysis.claims.claim import Judgement
from lorabench.analysis.claims.evidence import setting
from lorabench.record import Record

MIB = 1 << 20
_TOLD = 5
TIMED_IN_TURN = "step times of these cases, timed in turn"


def mib(nbytes: float) -> float:
    """Bytes as MiB, unrounded: who shows it rounds it."""
    return nbytes / MIB


def told(nbytes: float) -> str:
    """Bytes in a sentence: in the largest unit of which there is at least one."""
    size = abs(nbytes)
    for unit, name in ((1 << 30, "GiB"), (MIB, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{nbytes / unit:.4g} {name}"
    return f"{nbytes:.0f} B"


def listed(names: Iterable[str]) -> str:
    """``a, b and c``, each once, cut after five."""
    once = list(dict.fromkeys(names))
    if len(once) > _TOLD:
        return f"{', '.join(once[:_TOLD])} and {len(once) - _TOLD} more"
    return once[0] if len(once) == 1 else f"{', '.join(once[:-1])} and {once[-1]}" if once else "none"


def setup(record: Record) -> str:
    """Model and the form of its weights, as rows name them: ``llama-tiny int8``."""
    return f"{setting(record, 'model')} {setting(record, 'quantization')}"


def targets_of(record: Record) -> str:
    """The adapter's target modules in a word: ``q_proj+v_proj``, ``all-linear``."""
    targets = setting(record, "adapter.target_modules")
    return targets if isinstance(targets, str) else "+".join(str(name) for name in targets or ())


def combined(holding: Sequence[str], failing: Sequence[str], unclear: Sequence[str] = ()) -> Judgement:
    """All hold: supported; none does: refuted; some do and others do not: conditional. What is unclear decides nothing,
    unless all that is clear agrees: then it leaves the whole inconclusive."""
    if holding and failing:
        return "conditional"
    if unclear or not (holding or failing):
        return "inconclusive"
    return "supported" if holding else "refuted"


def split(holding: Sequence[str], failing: Sequence[str]) -> str | None:
    """The condition of a conditional verdict: under which names it holds and under which it does not."""
    return f"under {listed(holding)}; not under {listed(failing)}" if holding and failing else None


def without_unknown(rows: Iterable[Mapping[str, Any]], *names: str) -> tuple[dict[str, Any], ...]:
    """``rows`` without those columns of ``names`` that no row knows: of a GPU where none ran, say."""
    kept = [dict(row) for row in rows]
    unknown = [name for name in names if not any(row[name] for row in kept)]
    return tuple({name: value for name, value in row.items() if name not in unknown} for row in kept)
