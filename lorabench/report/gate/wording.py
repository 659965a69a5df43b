"""The gate's decision in words, the same ones wherever they are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lorabench.analysis.comparison import changed_settings
from lorabench.analysis.gate.comparison import Growth, Number, Outcome
from lorabench.analysis.gate.decision import KINDS, Decision
from lorabench.analysis.gate.metrics import SLACK, title
from lorabench.record import Record
from lorabench.report.terminal import MIB
from lorabench.wording import counted, one_line

WHY_TIMES_WARN = (
    "a time never fails here: the baseline's is of another day and another state of the machine; lorabench ab compares "
    "times in pairs"
)
LONG = 1000
"""Characters of what lists several things."""
_MOST_GROWN = 3
_NAME_CHARACTERS = 200
_MESSAGE_CHARACTERS = 500


def plain(text: str, most: int = _NAME_CHARACTERS) -> str:
    """What a stranger wrote, on one line and not endless.

    GitHub's and Azure's runners obey ``##[command]`` and ``##vso[command]`` wherever it stands in a line
    (actions/runner, ActionCommand.TryParse), so the signs are taken apart.
    """
    # Cut first: escaping makes it up to ten times as long.
    cut = text if len(text) <= most else text[: most - 3] + "..."
    return one_line(cut).replace("##", "# #")


def named(outcome: Outcome) -> str:
    """The case, and where it ran."""
    record = outcome.record
    how = "predicted for" if record.source == "predicted" else "on"
    extra = f" #{record.repeat + 1}" if record.repeat else ""
    return plain(f"{record.name}{extra} {how} {record.device.name}", 2 * _NAME_CHARACTERS)


def metric_title(number: Number) -> str:
    return plain(title(number.metric), 80)


def sized(n_bytes: int | None) -> str:
    """``4,258,359,296 bytes (4,061.1 MiB)``."""
    return "nothing" if n_bytes is None else f"{n_bytes:,} {_unit(n_bytes)} ({n_bytes / MIB:,.1f} MiB)"


def difference(n_bytes: int | None) -> str:
    """``+512 bytes (+0.0004883 MiB)``."""
    return "" if n_bytes is None else f"{n_bytes:+,} {_unit(n_bytes)} ({signed_mib(n_bytes)} MiB)"


def _unit(n_bytes: int) -> str:
    return "byte" if abs(n_bytes) == 1 else "bytes"


def signed_mib(n_bytes: int) -> str:
    """With one decimal; below that with four digits that say something."""
    value = n_bytes / MIB
    return f"{value:+,.1f}" if abs(value) >= 100 or n_bytes == 0 else f"{value:+.4g}"


def told(number: Number) -> str:
    """One number, in full: ``peak allocated: 1,024 bytes (0.0 MiB) -> 1,536 bytes (0.0 MiB), +512 bytes (...)``."""
    if number.change == "lost":
        return f"{metric_title(number)}: {sized(number.base)} in the baseline, and no such number here"
    if number.change == "new":
        return f"{metric_title(number)}: {sized(number.head)}, and no such number in the baseline"
    text = f"{metric_title(number)}: {sized(number.base)} -> {sized(number.head)}, {difference(number.difference)}"
    return text + (f", more than the tolerance of {number.tolerance.n_bytes:,} bytes" if number.tolerance else "")


def headline(outcome: Outcome, decision: Decision) -> str:
    """What became of a case, in one line without its name."""
    head = outcome.head
    if outcome.kind == "not ok" and head is not None:
        return _ending(head)
    if outcome.head is None:
        names = set(outcome.record.names)
        namesakes = [one.record for one in decision.of_kind("new") if names & {*one.record.names}]
        changed = changed_settings(namesakes[0], [outcome.record]) if namesakes else None
        return f"the baseline has it, the results do not{_told_settings(changed)}"
    if outcome.base is None:
        changed = changed_settings(outcome.record, [one.record for one in decision.of_kind("lost")])
        return f"the baseline lacks it{_told_settings(changed)}"
    worst = worst_number(outcome)
    return told(worst) if worst else "equal to the byte, or within its tolerance"


def _told_settings(changed: str | None) -> str:
    return f"; of this name the baseline has other settings: {plain(changed)}" if changed else ""


def worst_number(outcome: Outcome) -> Number | None:
    """The number that a case is judged by: of its kind, the one that moved most."""
    moved = [number for number in outcome.numbers if number.change == outcome.kind]
    return max(moved, key=lambda number: abs(number.difference or 0), default=None)


def moved_numbers(outcome: Outcome) -> list[Number]:
    return [number for number in outcome.numbers if number.change != "equal"]


def causes(outcome: Outcome) -> Iterator[str]:
    """What is behind a change, a line each: categories, modules, what was built; then what is told and not judged."""
    if outcome.kind in ("more", "fewer"):
        for what, changes in (("category", outcome.categories), ("module", outcome.modules)):
            if text := _grown(changes, most_first=outcome.kind == "more"):
                yield f"by {what}: {text}"
    if outcome.proof and outcome.kind != "equal":
        yield f"built: {', '.join(plain(change, 80) for change in outcome.proof)}"
    if outcome.kind != "equal":
        for number in outcome.untold:
            if number.change in ("more", "fewer"):
                yield f"not judged: {told(number)}"


def times(outcome: Outcome) -> list[str]:
    """Times that moved, as far as a baseline of another day can tell."""
    return [
        f"{plain(one.phase, 40)}: {one.base_s * 1e3:.3g} ms -> {one.head_s * 1e3:.3g} ms ({one.share:+.1%})"
        for one in sorted(outcome.times, key=lambda one: (-one.share, one.phase))
    ]


def notices(decision: Decision) -> Iterator[str]:
    """What is to be said of the whole, a line each; none of it decides."""
    if decision.crossed:
        yield f"compared across: {plain('; '.join(decision.crossed), LONG)}"
    if decision.remarks:
        yield f"also differs: {plain('; '.join(decision.remarks), LONG)}"
    if decision.verdict == "not comparable":
        return
    if fewer := decision.of_kind("fewer"):
        yield (
            f"{counted(len(fewer), 'case')} with fewer bytes: record it with --update"
            f"{'' if decision.policy.strict else ', or it can be lost again unseen'}"
        )
    if new := [outcome for outcome in decision.outcomes if outcome.base is None]:
        yield f"{counted(len(new), 'case')} not in the baseline: take up with --update"
    if decision.policy.allow_missing and (lost := decision.of_kind("lost")):
        yield f"{counted(len(lost), 'case')} not compared in full, for --allow-missing"
    if any(outcome.times for outcome in decision.outcomes):
        yield WHY_TIMES_WARN


def verdict_line(decision: Decision) -> str:
    """The whole in one line."""
    if decision.verdict == "not comparable":
        return f"not comparable: {plain('; '.join(decision.obstacles), LONG)}"
    counts = ", ".join(f"{number} {kind}" for kind in KINDS if (number := len(decision.of_kind(kind))))
    total = sum(len(outcome.numbers) for outcome in decision.outcomes)
    return f"{decision.verdict}: {counted(len(decision.outcomes), 'case')} ({counts}), {total} numbers"


def _ending(record: Record) -> str:
    error = record.error
    text: str = record.status
    if error is not None:
        where = f" in {plain(error.phase, 40)}" if error.phase else ""
        text += f"{where}: {plain(error.type, 80)}: {plain(error.message, _MESSAGE_CHARACTERS)}"
    peak = _last_peak(record)
    return text if peak is None else f"{text}; last peak: {sized(peak)}"


def _last_peak(record: Record) -> int | None:
    """Of a case that ran out of memory: how much it held at most before that."""
    if record.memory is None:
        return None
    known = [record.memory.peak_allocated_bytes, *(phase.peak_bytes for phase in record.memory.phases.values())]
    return max((n_bytes for n_bytes in known if n_bytes is not None), default=None)


def _grown(changes: Sequence[Growth], *, most_first: bool) -> str:
    found = list(changes) if most_first else list(reversed(changes))
    # What shrank explains no growth, unless nothing grew.
    wanted = [one for one in found if (one.difference > 0) == most_first] or found
    # Rounding follows from what was asked for.
    wanted.sort(key=lambda one: one.name == SLACK)
    texts = [
        f"{plain(one.name or 'outside of modules', 80)} {difference(one.difference)}" for one in wanted[:_MOST_GROWN]
    ]
    more = len(wanted) - len(texts)
    return ", ".join(texts) + (f" and {more} more" if more > 0 else "")
