"""Markdown for a comment on a pull request or a step's summary: what got worse first, everything else folded away."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from lorabench.analysis.gate.comparison import Number, Outcome
from lorabench.analysis.gate.decision import Decision
from lorabench.report.gate import wording
from lorabench.report.page.markdown import code, escaped

MOST_CHARACTERS = 60_000
"""GitHub refuses a comment of more than 65,536."""
_MOST_OPEN = 20
_MARKS = {"passed": "✅", "failed": "❌", "not comparable": "⚠️"}
_HEADS = ("case", "metric", "baseline", "now", "difference")


def markdown(decision: Decision) -> str:
    """The verdict, a table of what fails, then details by case, as many as fit."""
    blocks = list(_blocks(decision))
    text, left_out = "", 0
    for block in blocks:
        if len(text) + len(block) > MOST_CHARACTERS:
            left_out += 1
        else:
            text += block
    if left_out:
        text += f"\n{left_out} more parts would not fit here: the command's output has them.\n"
    return text


def _blocks(decision: Decision) -> Iterator[str]:
    mark = _MARKS[decision.verdict]
    yield f"### {mark} GPU memory: {escaped(wording.verdict_line(decision))}\n"
    if decision.verdict == "not comparable":
        yield _list(wording.plain(text, wording.LONG) for text in decision.obstacles)
        yield f"\n{escaped(decision.way_out)}\n"
        return
    failing = [outcome for outcome in decision.outcomes if decision.policy.fails_case(outcome)]
    if failing:
        yield _table([row for outcome in failing[:_MOST_OPEN] for row in _worst(outcome, decision)])
        if len(failing) > _MOST_OPEN:
            yield f"\n... and {len(failing) - _MOST_OPEN} more cases, below.\n"
    yield _list(wording.notices(decision))
    for outcome in failing:
        yield _details(outcome, decision)
    others = [outcome for outcome in decision.outcomes if outcome not in failing]
    for outcome in others:
        if outcome.kind != "equal" or outcome.times:
            yield _details(outcome, decision)
    equal = [wording.named(outcome) for outcome in others if outcome.kind == "equal"]
    if equal:
        names = "".join(f"- {code(name)}\n" for name in equal)
        summary = f"{len(equal)} equal to the byte, or within their tolerance"
        yield f"\n<details><summary>{summary}</summary>\n\n{names}\n</details>\n"


def _worst(outcome: Outcome, decision: Decision) -> Iterator[Sequence[str]]:
    number = wording.worst_number(outcome)
    if number is not None and number.difference is not None:
        yield _cells(number, outcome)
    else:
        yield str(code(wording.named(outcome))), outcome.kind, str(code(wording.headline(outcome, decision))), "", ""


def _details(outcome: Outcome, decision: Decision) -> str:
    """A case, folded: GitHub reads Markdown inside of HTML after an empty line."""
    # A summary is HTML, where a name would be markup; it comes below, in code.
    failing = "regression" if decision.policy.fails_case(outcome) else "told"
    whole = outcome.base is None or outcome.head is None or outcome.kind == "not ok"
    lines = [wording.headline(outcome, decision)] if whole else []
    lines += [*wording.causes(outcome), *(f"warning: {time}" for time in wording.times(outcome))]
    body = "" if whole else _table([_cells(number, outcome) for number in wording.moved_numbers(outcome)])
    title = f"\n<details><summary>{failing}: {outcome.kind}</summary>\n\n{code(wording.named(outcome))}\n"
    return f"{title}{body}{_list(lines)}\n</details>\n"


def _cells(number: Number, outcome: Outcome) -> Sequence[str]:
    return (
        str(code(wording.named(outcome))),
        str(code(wording.metric_title(number))),
        wording.sized(number.base),
        wording.sized(number.head),
        wording.difference(number.difference) or number.change,
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [_HEADS, ("---", "---", "---:", "---:", "---:"), *rows]
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _list(texts: Iterable[str]) -> str:
    # In code: a message may name @someone, whom GitHub would tell.
    lines = "".join(f"- {code(text)}\n" for text in texts)
    return f"\n{lines}" if lines else ""
