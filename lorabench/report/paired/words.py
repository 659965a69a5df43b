"""The sentences of a comparison. What strangers wrote in them is made printable on one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lorabench.analysis.paired.comparison import SIDES, Answer, Comparison, Side, different_versions
from lorabench.analysis.paired.judgement import Judgement
from lorabench.environment import Environment
from lorabench.wording import one_line

_WORST_FIRST = ("slower", "inconclusive", "faster", "equivalent")
_ENDED = {
    "settled": "every verdict is settled",
    "pairs": "the pairs ran out (--pairs)",
    "budget": "the time ran out (--budget-s)",
}


def sides(environments: Mapping[Side, Environment]) -> Iterator[str]:
    """What is compared, in two or three lines."""
    differences = different_versions(environments)
    for side in SIDES:
        versions = environments[side].versions
        told = [
            f"{name} {versions[name]}"
            for name in ("python", "torch", "transformers", "peft", "bitsandbytes")
            if name in versions
        ]
        yield one_line(f"{side}: {', '.join(told)}")
    changed = [f"{library} {base} -> {head}" for library, base, head in differences]
    yield one_line(f"differs: {', '.join(changed)}" if changed else "differs: no version")


def worst_first(comparison: Comparison) -> list[Answer]:
    return sorted(comparison.answers, key=lambda answer: _WORST_FIRST.index(answer.verdict))


def name(answer: Answer) -> str:
    return one_line(answer.case.name)


def milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1e3:.{0 if seconds >= 1 else 1 if seconds >= 0.01 else 2 if seconds >= 0.001 else 3}f}"


def change(judgement: Judgement) -> str:
    """Head by base, as a change in percent; positive is slower."""
    return "-" if judgement.ratio is None else f"{judgement.ratio - 1:+.1%}"


def interval(judgement: Judgement) -> str:
    if judgement.low is None or judgement.high is None:
        return "-"
    return f"{judgement.low - 1:+.1%} to {judgement.high - 1:+.1%}"


def verdict_line(comparison: Comparison, strict: bool) -> str:
    """The whole in one line."""
    failing = comparison.fails(strict)
    counted = {verdict: sum(answer.verdict == verdict for answer in comparison.answers) for verdict in _WORST_FIRST}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counted.items() if count)
    took = f"{comparison.pairs} pairs in {comparison.seconds:.0f} s; {_ENDED[comparison.ended]}"
    return f"{'failed' if failing else 'passed'}: {told}; {took}"


def notes(answer: Answer) -> Iterator[str]:
    """What there is to say of an answer beyond its figures."""
    judgement = answer.judgement
    if answer.verdict == "inconclusive" and judgement.smallest_effect is not None:
        more = "over 100,000" if judgement.pairs_needed is None else f"about {judgement.pairs_needed:,}"
        yield (
            f"inconclusive after {judgement.pairs} pairs: {more} would settle it; "
            f"a slow-down of {judgement.smallest_effect:.1%} would have shown"
        )
    elif answer.verdict == "inconclusive":
        yield f"inconclusive: too few pairs to judge ({judgement.pairs})"
    lost = [f"{count} of {side}" for side, count in answer.lost.items() if count]
    if lost:
        yield one_line(f"processes that did not end ok: {', '.join(lost)}; {answer.error}")


def legend(comparison: Comparison) -> str:
    rules = comparison.rules
    return (
        "times in ms, medians over processes; change is head by base over pairs of processes, with an interval that "
        f"holds at every look (alpha {rules.alpha:g} over all); a change within {rules.floor:.1%} does not matter"
    )
