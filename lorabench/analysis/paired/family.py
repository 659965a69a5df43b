"""All comparisons of a run: judged together, so that more of them raise no more false alarms."""

from __future__ import annotations

from dataclasses import dataclass, field

from lorabench.analysis.paired.boundaries import levels_of
from lorabench.analysis.paired.judgement import (
    MIN_PAIRS,
    NOTHING_YET,
    Judgement,
    Rules,
    Summary,
    Verdict,
    conclude,
    direction,
    is_within,
    summarise,
)


@dataclass
class _Comparison:
    log_ratios: list[float] = field(default_factory=list)
    looks: list[int] = field(default_factory=list)
    final: bool = False
    judgement: Judgement = NOTHING_YET

    def level(self, alpha: float, rules: Rules) -> float:
        """The nominal level of the last look, had ``alpha`` been this comparison's from the start."""
        return levels_of(self.looks, rules.pairs, alpha, self.final)[-1]


class Family:
    """``size`` comparisons, each fed with log-ratios and looked at now and then.

    ``slower`` and ``faster`` are Holm's (1979): the first found is judged at alpha by the number of comparisons, and
    each one settled passes its share on (with spending functions: Maurer and Bretz 2013, Statistics in
    Biopharmaceutical Research 5). ``equivalent`` passes nothing on and is judged at alpha by the number throughout.
    What is settled stays so and takes no more pairs.
    """

    def __init__(self, size: int, rules: Rules) -> None:
        self._rules = rules
        self._comparisons = [_Comparison() for _ in range(size)]

    def add(self, index: int, log_ratio: float) -> None:
        """One more pair of a comparison: the logarithm of head's statistic by base's."""
        self._comparisons[index].log_ratios.append(log_ratio)

    def judgement(self, index: int) -> Judgement:
        """As of the last look."""
        return self._comparisons[index].judgement

    def look(self, *indices: int, final: bool = False) -> None:
        """Judges comparisons with the pairs that they have now; ``final`` if they will get no more.

        A ``slower`` is settled before the end only if the mean is beyond the floor: nearer to 1, more pairs may show
        that it does not matter.
        """
        open_now = [comparison for comparison in map(self._comparisons.__getitem__, indices) if self._take(comparison)]
        for comparison in open_now:
            comparison.final = final
        decided = True
        while decided:
            decided = False
            for comparison in open_now:
                if not comparison.judgement.settled:
                    comparison.judgement = self._judge(comparison)
                    decided |= comparison.judgement.settled and comparison.judgement.verdict in ("slower", "faster")

    def _take(self, comparison: _Comparison) -> bool:
        """Notes the look; False if there is nothing to judge."""
        pairs = len(comparison.log_ratios)
        if comparison.judgement.settled or pairs < MIN_PAIRS:
            return False
        if not comparison.looks or pairs > comparison.looks[-1]:
            comparison.looks.append(pairs)
        return True

    def _judge(self, comparison: _Comparison) -> Judgement:
        rules, summary = self._rules, summarise(comparison.log_ratios)
        size = len(self._comparisons)
        found = sum(
            other.judgement.settled and other.judgement.verdict in ("slower", "faster") for other in self._comparisons
        )
        strict = comparison.level(rules.alpha / size, rules)
        if is_within(summary.interval(strict), rules.log_floor):
            return conclude(summary, "equivalent", True, strict, rules)
        level = comparison.level(rules.alpha / max(1, size - found), rules)
        verdict = direction(summary.interval(level))
        return conclude(summary, verdict, self._is_settled(summary, verdict, comparison.final), level, rules)

    def _is_settled(self, summary: Summary, verdict: Verdict, final: bool) -> bool:
        return verdict != "inconclusive" and (final or abs(summary.mean) > self._rules.log_floor)
